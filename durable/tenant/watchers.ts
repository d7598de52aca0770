/**
 * Who waits for a change of this tenant's containers: long polls and readers of the event stream. They live in memory
 * alone; a crash ends their calls, and the caller asks again.
 */

/** A client that has gone is noticed only by writing to it, so an idle stream carries an empty line this often. */
const KEEPALIVE_MS = 15_000

export class Watchers {
  readonly #watchers = new Set<() => void>()

  /** Wakes everybody; each looks for itself whether what it waits for has come. */
  changed(): void {
    for (const wake of this.#watchers) wake()
  }

  /** Resolves with `look`'s first answer that is not undefined, or with undefined at the timeout. */
  async until<T>(look: () => T | undefined, timeoutMs: number): Promise<T | undefined> {
    const already = look()
    if (already !== undefined) return already
    const { promise, resolve, reject } = Promise.withResolvers<T | undefined>()
    const wake = () => {
      try {
        const found = look()
        if (found === undefined) return
        // Looking may move a reader's cursor on: another change in this same turn must not look again for nobody.
        this.#watchers.delete(wake)
        resolve(found)
      } catch (error) {
        this.#watchers.delete(wake)
        reject(error)
      }
    }
    this.#watchers.add(wake)
    const timer = setTimeout(() => resolve(undefined), timeoutMs)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#watchers.delete(wake)
    }
  }

  /**
   * A byte stream of what `next` yields, as it comes. It reads on only when the reader has taken what it was given, so a slow
   * reader costs no memory: what it has not read yet stays in SQLite.
   */
  stream(next: () => string | undefined): ReadableStream<Uint8Array> {
    const { readable, writable } = new IdentityTransformStream()
    this.#pump(next, writable.getWriter()).catch((error: unknown) => console.error("an event stream broke off", error))
    return readable
  }

  async #pump(next: () => string | undefined, writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
    const encoder = new TextEncoder()
    const reader = { gone: false }
    const leave = () => {
      reader.gone = true
      this.changed()
    }
    writer.closed.then(leave, leave)
    while (!reader.gone) {
      const text = await this.until(() => (reader.gone ? "" : next()), KEEPALIVE_MS)
      if (reader.gone) return
      try {
        await writer.write(encoder.encode(text ?? "\n"))
      } catch {
        return // the reader has left
      }
    }
  }
}
