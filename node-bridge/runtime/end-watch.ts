/**
 * Tells when a run may have ended: at once when conmon writes its exit file, and soon after its monitor is gone, for one that was
 * killed writes none. Only hints: who is woken looks for himself.
 */
import { watch } from "node:fs"
import type { FSWatcher } from "node:fs"

/** A killed monitor or a lost notification is noticed this late at most. A host may have a thousand runs that wait. */
const RECHECK_MS = 1_000

export class EndWatch {
  readonly #watcher: FSWatcher
  readonly #waiting = new Map<string, Set<() => void>>()

  constructor(exitsDir: string) {
    this.#watcher = watch(exitsDir, { persistent: false }, (_event, name) => {
      if (name !== null) for (const wake of this.#waiting.get(name) ?? []) wake()
    })
    this.#watcher.on("error", () => {}) // the recheck goes on without it
  }

  /**
   * Ask before looking, so that nothing falls between. Resolves at the next hint, or when aborted. `isWatched`: a cheap look
   * whether a notification can still come.
   */
  hint(runId: string, signal: AbortSignal, isWatched: () => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const wakers = this.#waiting.get(runId) ?? new Set()
    this.#waiting.set(runId, wakers)
    const timer = setTimeout(() => (isWatched() ? void timer.refresh() : resolve()), RECHECK_MS)
    const wake = () => resolve()
    wakers.add(wake)
    signal.addEventListener("abort", wake, { once: true })
    return promise.finally(() => {
      clearTimeout(timer)
      signal.removeEventListener("abort", wake)
      wakers.delete(wake)
      if (wakers.size === 0) this.#waiting.delete(runId)
    })
  }

  close(): void {
    this.#watcher.close()
    for (const wakers of this.#waiting.values()) for (const wake of wakers) wake()
  }
}
