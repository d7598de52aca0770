/** Measures contenders in turn, so that a machine that grows slower or faster meanwhile does so for all alike. */
import { setTimeout as sleep } from "node:timers/promises"
import type { BenchContext, Contender } from "./bench.ts"
import { orderOfRound } from "./stats.ts"

/** The kernel goes on for a while after a container is gone: network namespaces and cgroups are taken apart behind one's back. */
const SETTLE_MS = 200

export class Series {
  readonly #byName = new Map<string, number[]>()

  add(figures: Readonly<Record<string, number>>): void {
    for (const [name, value] of Object.entries(figures)) {
      const series = this.#byName.get(name)
      if (series === undefined) this.#byName.set(name, [value])
      else series.push(value)
    }
  }

  /** A statistic of one series; null when it was not measured at all. */
  of(name: string, statistic: (series: readonly number[]) => number): number | null {
    const series = this.#byName.get(name)
    return series === undefined ? null : statistic(series)
  }
}

/** Runs `rounds` rounds, after one whose figures are dropped: it fills caches and pools. Rejects between two turns when aborted. */
export async function alternate(
  contenders: readonly Contender[],
  rounds: number,
  { say, signal }: Pick<BenchContext, "say" | "signal">,
): Promise<Series> {
  const series = new Series()
  for (let round = 0; round <= rounds; round++) {
    for (const contender of orderOfRound(contenders, round)) {
      signal.throwIfAborted()
      const figures = await contender.once()
      if (round > 0) series.add(figures)
      await contender.tidy()
      await sleep(SETTLE_MS)
    }
    say(round === 0 ? "warmed up" : `round ${round} of ${rounds}`)
  }
  return series
}
