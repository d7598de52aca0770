/**
 * A node's right to keep its runs alive. It is renewed by every answered heartbeat and by the welcome to a session, counted from
 * when the question was *sent*, by a clock that also counts sleep: a machine that was suspended, or a bridge that was stopped,
 * finds its lease gone when it goes on, for every step of a run and every message looks at the lease first. The platform gives
 * the runs up only later (by the margin), so that a run never lives on two nodes.
 *
 * When it was renewed is kept beside the journal, so that the next bridge counts on from there: the platform does so too. Only a
 * bridge that finds nothing, or what an earlier start of the machine left, begins with a whole lease.
 */
import { LEASE_MARGIN_SECONDS, LEASE_SECONDS } from "../../schema/protocol.ts"
import type { Timers } from "../timers.ts"
import type { RunRecord } from "./record.ts"

/** The most that our seconds and the platform's differ: quartz and a slewed clock stay below 0.1 %, a poor virtual one may not. */
export const LEASE_DRIFT_SHARE = 0.01

export interface LeaseMemory {
  /** What an earlier bridge of this boot kept, as boot time; null when there is nothing. */
  readonly renewedAt: number | null
  /** `endsAt`: the boot time at which the platform may give the runs up. Must not throw. */
  renewed(renewedAt: number, endsAt: number): void
}

export class Lease {
  readonly #timers: Timers
  readonly #memory: LeaseMemory
  readonly #onLost: () => void
  #renewedAt: number
  #wholeMs = counted(LEASE_SECONDS)
  #periodMs = counted(LEASE_SECONDS - LEASE_MARGIN_SECONDS)
  #lost = false
  #cancel: (() => void) | null = null

  constructor(timers: Timers, memory: LeaseMemory, onLost: () => void) {
    this.#timers = timers
    this.#memory = memory
    this.#onLost = onLost
    const now = timers.boottime()
    this.#renewedAt = Math.min(memory.renewedAt ?? now, now)
    this.#keep()
    this.#arm()
  }

  get lost(): boolean {
    return this.#lost
  }

  /** The platform says how long its leases are. */
  configure(leaseSeconds: number, marginSeconds: number): void {
    this.#wholeMs = counted(leaseSeconds)
    this.#periodMs = counted(Math.max(leaseSeconds - marginSeconds, 1))
    this.#keep()
    this.#arm()
  }

  /** `sentAt`: the boot time at which the question left that has now been answered. */
  renew(sentAt: number): void {
    if (sentAt <= this.#renewedAt) return
    // A run stopped for want of a lease stays stopped; the lease itself comes back.
    this.check()
    this.#renewedAt = sentAt
    this.#lost = false
    this.#keep()
    this.#arm()
  }

  /** Looks at the clock now: a timer is late after sleep. */
  check(): void {
    if (this.#lost || this.#timers.boottime() < this.#renewedAt + this.#periodMs) return
    this.#lost = true
    this.#onLost()
  }

  close(): void {
    this.#cancel?.()
  }

  #keep(): void {
    this.#memory.renewed(this.#renewedAt, this.#renewedAt + this.#wholeMs)
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

const counted = (seconds: number): number => seconds * 1000 * (1 - LEASE_DRIFT_SHARE)

/**
 * Whether a run must end when its node has no lease any more. One that is to be kept and has not been started must: the platform
 * waits for its start no longer than for any other's, and then makes another.
 */
export const endsWithLease = ({ assignment, state }: Pick<RunRecord, "assignment" | "state">): boolean =>
  assignment.spec.on_partition === "stop" || (state !== "starting" && state !== "running")
