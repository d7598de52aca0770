/** How long to wait before the next session. Pure: randomness and time are passed in. */

const FIRST_MS = 100
const LONGEST_MS = 15_000
/** A session that lived this long was healthy: its end begins a new row of tries. */
export const HEALTHY_MS = 60_000

/**
 * `failures`: sessions in a row that did not become healthy, this one counted. `random` in [0, 1) spreads a thousand nodes
 * that lost the same platform over the upper half of the interval.
 */
export function backoffMs(failures: number, random: number): number {
  const ceiling = Math.min(FIRST_MS * 2 ** Math.max(failures - 1, 0), LONGEST_MS)
  return ceiling / 2 + (ceiling / 2) * random
}
