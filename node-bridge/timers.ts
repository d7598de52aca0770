/** Time as a parameter: tests pass their own. */
import { uptime } from "node:os"

export interface Timers {
  /** Unix milliseconds: for what is told to others and must survive a restart. */
  now(): number
  /** Milliseconds that only rise, time in which the machine slept included (CLOCK_BOOTTIME): for leases. */
  boottime(): number
  /** Calls back once; the returned function cancels. Longer waits than a timer can hold come early. */
  after(ms: number, callback: () => void): () => void
}

/** setTimeout wraps beyond 2^31 ms; whoever waits longer looks at the clock and waits again. */
const LONGEST_TIMER_MS = 3_600_000

export const systemTimers: Timers = {
  now: () => Date.now(),
  boottime: () => uptime() * 1000,
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(Math.max(ms, 0), LONGEST_TIMER_MS))
    return () => clearTimeout(timer)
  },
}
