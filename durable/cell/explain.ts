/** Why runs do not go where they do not go. Pure. Looks at every node: for refusals and for people, not for placing. */
import type { CellId } from "../../schema/ids.ts"
import type { Refused } from "../../schema/api.ts"
import type { Explanation } from "../shared/rpc.ts"
import type { NodeState } from "./node-state.ts"
import { refusal, type Search } from "./schedule.ts"
import { scoreOf, scoresOf } from "./scorers.ts"

/** Nodes told of by name; more than a person reads, and an answer of some hundred kilobytes. */
const MAX_NODES = 1000

/** How many nodes each reason kept out, most first; of equal counts in the order of the text. */
export function countRefusals(nodes: readonly NodeState[], search: Search): Refused[] {
  const counts = new Map<string, number>()
  for (const node of nodes) {
    const reason = refusal(node, search)
    if (reason !== undefined) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return [...counts]
    .map(([reason, count]) => ({ reason, nodes: count }))
    .toSorted((a, b) => b.nodes - a.nodes || (a.reason < b.reason ? -1 : 1))
}

export function explain(cell_id: CellId, nodes: readonly NodeState[], search: Search): Explanation {
  const judged = nodes.map((node) => {
    const reason = refusal(node, search) ?? null
    return { node, reason, score: reason === null ? scoreOf(node, search.ask, search.scorers) : null }
  })
  const sorted = judged.toSorted((a, b) => (b.score ?? -1) - (a.score ?? -1) || (a.node.id < b.node.id ? -1 : 1))
  const best = sorted[0]
  return {
    nodes: sorted.slice(0, MAX_NODES).map(({ node, reason, score }) => ({
      node_id: node.id,
      cell_id,
      reason,
      score,
      scores: reason === null ? scoresOf(node, search.ask) : {},
    })),
    region: best === undefined || best.score === null ? null : (best.node.kind.labels.region ?? null),
    fitting: judged.filter(({ reason }) => reason === null).length,
    refused: countRefusals(nodes, search),
  }
}
