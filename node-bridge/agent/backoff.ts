/** How long to wait before the next session. Pure: randomness and time are passed in. */

const FIRST_MS = 100
const LONGEST_MS = 15_000
/** A session that lived this long was healthy: its end begins a new row of tries. */
const HEALTHY_MS = 60_000
/**
 * A platform that answers and goes down again is starting, or being mended: who has been let in waits no longer than this, were it
 * the tenth time. Only one that lets nobody in is left alone for longer.
 */
const LONGEST_AFTER_SESSION_MS = 1_600

export interface Ended {
  /** The session came as far as the complete set. */
  readonly wasOpen: boolean
  readonly livedMs: number
}

/** Failures in a row, the end of this session counted. */
export function failuresAfter(before: number, { wasOpen, livedMs }: Ended): number {
  if (wasOpen && livedMs >= HEALTHY_MS) return 1
  const most = 1 + Math.log2(LONGEST_AFTER_SESSION_MS / FIRST_MS)
  return wasOpen ? Math.min(before + 1, most) : before + 1
}

/** `random` in [0, 1) spreads a thousand nodes that lost the same platform over the upper half of the interval. */
export function backoffMs(failures: number, random: number): number {
  const ceiling = Math.min(FIRST_MS * 2 ** Math.max(failures - 1, 0), LONGEST_MS)
  return ceiling / 2 + (ceiling / 2) * random
}
