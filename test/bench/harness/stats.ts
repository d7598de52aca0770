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
 * Who goes when in a round: everybody once, the first of one round last in the next. Whatever one leaves behind for its
 * successor (a warm cache, work still under way) falls on all in turn.
 */
export function orderOfRound<T>(contenders: readonly T[], round: number): T[] {
  const first = contenders.length === 0 ? 0 : round % contenders.length
  return [...contenders.slice(first), ...contenders.slice(0, first)]
}
