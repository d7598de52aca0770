/**
 * Who waits for a change of this tenant's containers: long polls and readers of the event stream. They live in memory
 * alone; a crash ends their calls, and the caller asks again.
 */
import { AppError } from "../../schema/errors.ts"
import type { ContainerId } from "../../schema/ids.ts"

/** A client that has gone is noticed only by writing to it, so an idle stream carries an empty line this often. */
const KEEPALIVE_MS = 15_000

export class Watchers {
  /** By the container that they wait for; null: of all. Many at once wait for one each, and looking takes its time. */
  readonly #watchers = new Map<ContainerId | null, Set<() => void>>()

  /** Wakes who waits for one of these; each looks for itself whether what it waits for has come. */
  changed(containers: ReadonlySet<ContainerId>): void {
    for (const id of containers) this.#wake(id)
    this.#wake(null)
  }

  #wake(id: ContainerId | null): void {
    for (const wake of this.#watchers.get(id) ?? []) wake()
  }

  /** Resolves with `look`'s first answer that is not undefined, or with undefined at the timeout. `of` null: look at every change. */
  async until<T>(of: ContainerId | null, look: () => T | undefined, timeoutMs: number): Promise<T | undefined> {
    const already = look()
    if (already !== undefined) return already
    const { promise, resolve, reject } = Promise.withResolvers<T | undefined>()
    const wake = () => {
      try {
        const found = look()
        if (found === undefined) return
        // Looking may move a reader's cursor on: another change in this same turn must not look again for nobody.
        this.#remove(of, wake)
        resolve(found)
      } catch (error) {
        this.#remove(of, wake)
        reject(error)
      }
    }
    this.#add(of, wake)
    const timer = setTimeout(() => resolve(undefined), timeoutMs)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#remove(of, wake)
    }
  }

  #add(of: ContainerId | null, wake: () => void): void {
    const watchers = this.#watchers.get(of)
    if (watchers === undefined) this.#watchers.set(of, new Set([wake]))
    else watchers.add(wake)
  }

  #remove(of: ContainerId | null, wake: () => void): void {
    const watchers = this.#watchers.get(of)
    watchers?.delete(wake)
    if (watchers?.size === 0) this.#watchers.delete(of)
  }

  /**
   * A byte stream of what `next` yields, as it comes. It reads on only when the reader has taken what it was given, so a slow
   * reader costs no memory: what it has not read yet stays in SQLite.
   */
  stream(next: () => string | undefined): ReadableStream<Uint8Array> {
    const { readable, writable } = new IdentityTransformStream()
    const writer = writable.getWriter()
    this.#pump(next, writer).catch(async (error: unknown) => {
      // Its reader may read no longer, which ends it; anything else is a fault of ours.
      if (error instanceof AppError) return writer.close().catch(() => {})
      console.error("an event stream broke off", error)
      await writer.abort(error).catch(() => {})
    })
    return readable
  }

  async #pump(next: () => string | undefined, writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
    const encoder = new TextEncoder()
    const reader = { gone: false }
    const leave = () => {
      reader.gone = true
      this.#wake(null)
    }
    writer.closed.then(leave, leave)
    while (!reader.gone) {
      const text = await this.until(null, () => (reader.gone ? "" : next()), KEEPALIVE_MS)
      if (reader.gone) return
      try {
        await writer.write(encoder.encode(text ?? "\n"))
      } catch {
        return // the reader has left
      }
    }
  }
}
