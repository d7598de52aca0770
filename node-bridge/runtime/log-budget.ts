/**
 * How much log a run may still write, and whether its monitor has to wait. Pure. A bucket that fills at the run's rate and may
 * be overdrawn: the monitor is looked at now and then, so it may have written more than there was, and then waits longer. Over
 * any longer time the rate holds exactly.
 *
 * Bytes are those that the monitor wrote: the log as stored, a time for each line included, for that is what costs the host.
 */

/** A quiet run is looked at this often: a thousand of them cost one percent of one processor. */
const QUIET_LOOK_MS = 1_000
/** One that writes: at its capped speed (some 400 KB in a millisecond of its own) a monitor writes 2 MB meanwhile. */
const BUSY_LOOK_MS = 50
/** A monitor that may go on after it had to wait mostly overdraws at once. */
const FIRST_LOOK_MS = 2
/** The end of a run whose monitor waits is seen this late at most: the monitor has to tell its exit code. */
const WAITING_LOOK_MS = 50
/** What may be written at once, in time at the run's rate; at least one read of the monitor's. */
const BURST_MS = 1_000
const MIN_BURST_BYTES = 8_192
/** A monitor that waits goes on once this much has gathered: short turns would cost more than they smooth. */
const TURN_MS = 50
/** So long without a wait and the next one is told of again. */
const BURST_OVER_MS = 60_000

export interface LogBudget {
  /** Bytes that may be written now; below zero: overdrawn. */
  readonly balance: number
  /** What the monitor had written in all. */
  readonly written: number
  readonly atMs: number
  readonly waits: boolean
  /** When it last waited; null: never. */
  readonly waitedAtMs: number | null
  /** After how long to look again. */
  readonly lookMs: number
}

const burstOf = (rate: number) => Math.max((rate * BURST_MS) / 1_000, MIN_BURST_BYTES)

export const fullBudget = (rate: number, written: number, nowMs: number): LogBudget => ({
  balance: burstOf(rate),
  written,
  atMs: nowMs,
  waits: false,
  waitedAtMs: null,
  lookMs: BUSY_LOOK_MS,
})

/** `rate` in bytes a second. `news`: it has to wait, for the first time in a while. */
export function budgetAt(
  before: LogBudget,
  rate: number,
  written: number,
  nowMs: number,
): { readonly budget: LogBudget; readonly news: boolean } {
  const earned = (rate * (nowMs - before.atMs)) / 1_000
  const spent = written - before.written
  const burst = burstOf(rate)
  const balance = Math.min(burst, before.balance + earned - spent)
  const turn = (rate * TURN_MS) / 1_000
  const waits = before.waits ? balance < turn : balance < 0
  const news = waits && !before.waits && (before.waitedAtMs === null || nowMs - before.waitedAtMs > BURST_OVER_MS)
  const busy = balance < burst / 2 || spent > earned / 4
  return {
    budget: {
      balance,
      written,
      atMs: nowMs,
      waits,
      waitedAtMs: waits ? nowMs : before.waitedAtMs,
      lookMs: nextLook(),
    },
    news,
  }

  function nextLook(): number {
    if (waits) return Math.min(Math.max(((turn - balance) / rate) * 1_000, 1), WAITING_LOOK_MS)
    if (before.waits) return FIRST_LOOK_MS
    return Math.min(before.lookMs * 2, busy ? BUSY_LOOK_MS : QUIET_LOOK_MS)
  }
}
