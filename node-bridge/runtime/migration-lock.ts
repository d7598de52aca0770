/**
 * Keeps the kernel's lock on moving processes between cgroups in its fast state while containers are made. Forks take the
 * read side of that lock for nearly nothing; the price is that the first move after a quiet moment waits for a whole RCU
 * grace period (some 8 ms seen, within `crun create`). A move that changes nothing pays it ahead of need, on a thread of
 * the pool, while the container is still being prepared; for a grace period after each move the next ones are at once.
 *
 * Only a saving: where it cannot be had (this process's own cgroup is out of sight, say), the first move waits as ever.
 */
import { open } from "node:fs/promises"
import type { FileHandle } from "node:fs/promises"
import { setTimeout as delay } from "node:timers/promises"

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

  async #keep(ownProcs: string): Promise<void> {
    this.#keeping = true
    let procs: FileHandle | undefined
    try {
      procs = await open(ownProcs, "r+")
      while (this.#holders > 0) {
        await procs.write(String(process.pid))
        await delay(AGAIN_MS)
      }
    } catch {
      // The moves of these starts wait for the kernel.
    } finally {
      this.#keeping = false
      await procs?.close().catch(() => {})
    }
  }
}
