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

/** What is left of the lease once a guard that stands in for this process begins to kill: time to do it. */
export const KILL_RESERVE_SECONDS = 2

/** Boot times. */
export interface Renewal {
  readonly renewedAt: number
  /** Whatever must end with the lease is killed then, by whoever can. */
  readonly killAt: number
}

export interface LeaseMemory {
  /** What an earlier bridge of this boot kept; null when there is nothing. */
  readonly last: Renewal | null
  /** Must not throw. */
  keep(renewal: Renewal): void
}

export class Lease {
  readonly #timers: Timers
  readonly #memory: LeaseMemory
  readonly #onLost: () => void
  #renewedAt: number
  #killAt = Number.POSITIVE_INFINITY
  #wholeMs = counted(LEASE_SECONDS)
  #periodMs = counted(LEASE_SECONDS - LEASE_MARGIN_SECONDS)
  #lost = false
  #cancel: (() => void) | null = null

  constructor(timers: Timers, memory: LeaseMemory, onLost: () => void) {
    this.#timers = timers
    this.#memory = memory
    this.#onLost = onLost
    const now = timers.boottime()
    this.#renewedAt = Math.min(memory.last?.renewedAt ?? now, now)
    if (memory.last) this.#killAt = memory.last.killAt
    else this.#keep()
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
    if (this.#lost || this.#timers.boottime() < this.#endsAt) return
    this.#lost = true
    this.#onLost()
  }

  close(): void {
    this.#cancel?.()
  }

  get #endsAt(): number {
    return Math.min(this.#renewedAt + this.#periodMs, this.#killAt)
  }

  #keep(): void {
    const killAfterMs = Math.max(this.#wholeMs - KILL_RESERVE_SECONDS * 1000, this.#periodMs)
    this.#killAt = this.#renewedAt + killAfterMs
    this.#memory.keep({ renewedAt: this.#renewedAt, killAt: this.#killAt })
  }

  #arm(): void {
    this.#cancel?.()
    const leftMs = this.#endsAt - this.#timers.boottime()
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
