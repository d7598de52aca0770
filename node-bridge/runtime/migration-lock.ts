/**
 * Keeps the kernel's lock on moving processes between cgroups in its fast state while containers are made. Forks take the
 * read side of that lock for nearly nothing; the price is that the first move after a quiet moment waits for a whole RCU
 * grace period (some 8 ms seen, within `crun create`). A move that changes nothing pays it ahead of need, on a thread of
 * the pool, while the container is still being prepared; for a grace period after each move the next ones are at once.
 *
 * Only a saving: where it cannot be had (this process's own cgroup is out of sight, say), the first move waits as ever.
 */
import { closeSync, openSync, write as writeCallback } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"

const write = promisify<number, string, number>(writeCallback)

/** Shorter than a grace period, so that the lock does not go back between two moves. */
const AGAIN_MS = 4

export class MigrationLock {
  readonly #ownProcs: string | null
  #holders = 0
  #keeping = false

  /** `cgroup.procs` of the cgroup that this process is in, in any hierarchy: they share the lock. Null: it is out of sight. */
  constructor(ownProcs: string | null) {
    this.#ownProcs = ownProcs
  }

  /** Until the answer is called. Never fails, and never waits. */
  keepFast(): () => void {
    this.#holders++
    if (!this.#keeping && this.#ownProcs !== null) void this.#keep(this.#ownProcs)
    let held = true
    return () => {
      if (held) this.#holders--
      held = false
    }
  }

  /** No step between the last look at the holders and the end: whoever comes then finds either one who keeps, or none. */
  async #keep(ownProcs: string): Promise<void> {
    this.#keeping = true
    let procs: number | undefined
    try {
      procs = openSync(ownProcs, "r+")
      // Once at the least: a preparation may be over before its first move is, and the start that needs it comes right after.
      do {
        await write(procs, String(process.pid))
        await delay(AGAIN_MS)
      } while (this.#holders > 0)
    } catch {
      // The moves of these starts wait for the kernel.
    } finally {
      if (procs !== undefined) closeSync(procs)
      this.#keeping = false
    }
  }
}
