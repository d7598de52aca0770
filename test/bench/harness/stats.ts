/** The arithmetic of the benches: what a series of measurements says. Pure, so that a wrong figure can be a failing test. */

/**
 * The value below which the share `p` (0 to 1) of the series lies, between neighbours by straight line (the common
 * definition, "type 7"). Throws on an empty series: a figure that was not measured must not look like one.
 */
export function quantile(series: readonly number[], p: number): number {
  const sorted = series.toSorted((a, b) => a - b)
  const position = p * (sorted.length - 1)
  const below = sorted[Math.floor(position)]
  const above = sorted[Math.ceil(position)]
  if (below === undefined || above === undefined) throw new RangeError("a quantile needs at least one measurement")
  return below + (above - below) * (position - Math.floor(position))
}

export const median = (series: readonly number[]): number => quantile(series, 0.5)
export const p95 = (series: readonly number[]): number => quantile(series, 0.95)

/**
 * Who goes when in a round. Everybody once; and over `2 × n` rounds everybody comes directly after everybody else equally often
 * (a Williams design), so that what one leaves behind for its successor, such as the kernel still taking its network apart,
 * falls on all alike. Turning a fixed order would keep everybody's predecessor.
 */
export function orderOfRound<T>(contenders: readonly T[], round: number): T[] {
  const n = contenders.length
  // First, last, second, last but one, …: each step between neighbours is another one.
  const zigzag = contenders.map((_, i) => (i % 2 === 0 ? i / 2 : n - (i + 1) / 2))
  const turned = zigzag.map((i) => (i + round) % n)
  const order = Math.floor(round / n) % 2 === 0 ? turned : turned.toReversed()
  return order.flatMap((i) => contenders.slice(i, i + 1))
}
