/**
 * Where a run goes: the chain (filters.ts, scorers.ts) applied to nodes held in memory. Pure: the starting point of the
 * search comes in as a number, what is chosen goes out, and the caller books it.
 *
 * Looking at every node for every run costs seconds at 15,000 nodes, so the search ends once it has seen `SAMPLE` nodes that
 * fit. It starts somewhere else each time, and it has seen all of them before it says that nothing fits.
 */
import type { Ask } from "../shared/rpc.ts"
import type { Filter } from "./filters.ts"
import { type NodeState, type Wanted, wantedOf } from "./node-state.ts"
import type { Scorer } from "./scorers.ts"

export interface Chain {
  readonly filters: readonly Filter[]
  readonly scorers: readonly { readonly scorer: Scorer; readonly weight: number }[]
}

/** Fitting nodes among which the best is taken: a good one of a hundred is as good as the best of all, for less. */
export const SAMPLE = 100

export type Decision =
  | { readonly node: NodeState }
  | { readonly node: null; readonly refused: { readonly reason: string; readonly nodes: number }[] }

export function schedule(nodes: readonly NodeState[], asked: Ask, chain: Chain, start: number): Decision {
  const ask = wantedOf(asked)
  const filters = chain.filters.filter((filter) => filter.concerns?.(ask) ?? true)
  let best: NodeState | undefined
  let bestScore = -1
  let fitting = 0
  for (let i = 0; i < nodes.length && fitting < SAMPLE; i++) {
    const node = nodes[(start + i) % nodes.length]
    if (node === undefined || refusal(node, ask, filters) !== undefined) continue
    fitting++
    const score = scoreOf(node, ask, chain.scorers)
    if (best === undefined || score > bestScore || (score === bestScore && goesFirst(node, best))) {
      best = node
      bestScore = score
    }
  }
  return best ? { node: best } : { node: null, refused: explain(nodes, ask, filters) }
}

function refusal(node: NodeState, ask: Wanted, filters: readonly Filter[]): string | undefined {
  for (const filter of filters) {
    const reason = filter.run(node, ask)
    if (reason !== undefined) return reason
  }
  return undefined
}

function scoreOf(node: NodeState, ask: Wanted, scorers: Chain["scorers"]): number {
  let sum = 0
  for (const { scorer, weight } of scorers) sum += weight * scorer.run(node, ask)
  return sum
}

/** Of equal nodes the one with fewer runs, then the one with the lesser id: a total order, so that a decision can be repeated. */
const goesFirst = (a: NodeState, b: NodeState) => a.used.runs < b.used.runs || (a.used.runs === b.used.runs && a.id < b.id)

/** How many nodes each reason kept out, most first; of equal counts in the order of the text. */
function explain(nodes: readonly NodeState[], ask: Wanted, filters: readonly Filter[]) {
  const counts = new Map<string, number>()
  for (const node of nodes) {
    const reason = refusal(node, ask, filters)
    if (reason !== undefined) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return [...counts]
    .map(([reason, count]) => ({ reason, nodes: count }))
    .toSorted((a, b) => b.nodes - a.nodes || (a.reason < b.reason ? -1 : 1))
}
