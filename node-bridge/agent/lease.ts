/**
 * A node's right to keep its runs alive. It is renewed by every answered heartbeat, counted from when the heartbeat was
 * *sent*, by a clock that also counts sleep: a machine that was suspended finds its lease gone when it wakes. The platform
 * gives the runs up only later (by the margin), so that a run never lives on two nodes.
 *
 * A bridge that has just begun has one whole lease to reach the platform: the runs that it found went on without it, and
 * stopping them because the bridge was upgraded would help nobody.
 */
import { LEASE_MARGIN_SECONDS, LEASE_SECONDS } from "../../schema/protocol.ts"
import type { Timers } from "../timers.ts"

export class Lease {
  readonly #timers: Timers
  readonly #onLost: () => void
  #renewedAt: number
  #periodMs = (LEASE_SECONDS - LEASE_MARGIN_SECONDS) * 1000
  #lost = false
  #cancel: (() => void) | null = null

  constructor(timers: Timers, onLost: () => void) {
    this.#timers = timers
    this.#onLost = onLost
    this.#renewedAt = timers.boottime()
    this.#arm()
  }

  get lost(): boolean {
    return this.#lost
  }

  /** The platform says how long its leases are. */
  configure(leaseSeconds: number, marginSeconds: number): void {
    this.#periodMs = Math.max(leaseSeconds - marginSeconds, 1) * 1000
    this.#arm()
  }

  /** `sentAt`: the boot time at which the heartbeat left that has now been answered. */
  renew(sentAt: number): void {
    if (sentAt <= this.#renewedAt) return
    // A run stopped for want of a lease stays stopped; the lease itself comes back.
    this.check()
    this.#renewedAt = sentAt
    this.#lost = false
    this.#arm()
  }

  /** Looks at the clock now: a timer may be late after sleep. */
  check(): void {
    if (this.#lost || this.#timers.boottime() < this.#renewedAt + this.#periodMs) return
    this.#lost = true
    this.#onLost()
  }

  close(): void {
    this.#cancel?.()
  }

  #arm(): void {
    this.#cancel?.()
    const leftMs = this.#renewedAt + this.#periodMs - this.#timers.boottime()
    this.#cancel = this.#timers.after(leftMs, () => {
      this.check()
      if (!this.#lost) this.#arm()
    })
  }
}
