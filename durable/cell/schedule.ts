/**
 * Where a run goes: the chain (filters.ts, scorers.ts) applied to nodes held in memory. Pure but for what blocks learn of
 * themselves: the starting point of the search comes in as a number, what is chosen goes out, and the caller books it.
 *
 * Looking at every node for every run costs milliseconds at 15,000 nodes, so the search ends once it has seen `SAMPLE` nodes
 * that fit. It starts somewhere else each time and takes blocks from all over the cell; and it has looked at, or rightly
 * passed over, all of them before it says that nothing fits.
 */
import type { RunId } from "../../schema/ids.ts"
import type { Ask } from "../shared/rpc.ts"
import type { Block } from "./blocks.ts"
import { type Filter, FILTERS } from "./filters.ts"
import { type Around, type Free, hashOf, type NodeKind, type NodeState, type Wanted, wantedOf } from "./node-state.ts"
import { scoreOf, type Weighted } from "./scorers.ts"

/** Fitting nodes among which the best is taken: a good one of these is nearly as good as the best of all, for less. */
export const SAMPLE = 32

/** An ask beside what of the chain concerns it: made once for all its runs. */
export interface Search {
  readonly ask: Wanted
  readonly kindFilters: readonly Filter<NodeKind>[]
  readonly freeFilters: readonly Filter<Free>[]
  readonly nodeFilters: readonly Filter<NodeState>[]
  readonly scorers: readonly Weighted[]
  /** Of the kinds met so far: why none of its nodes will do; null if they may. */
  readonly verdicts: Map<NodeKind, string | null>
}

export function searchFor(ask: Omit<Ask, "run_ids">, around: Around, scorers: readonly Weighted[]): Search {
  const wanted = wantedOf(ask, around)
  const concerned = <On>(filters: readonly Filter<On>[]) => filters.filter((filter) => filter.concerns?.(wanted) ?? true)
  return {
    ask: wanted,
    kindFilters: concerned(FILTERS.kind),
    freeFilters: concerned(FILTERS.free),
    nodeFilters: concerned(FILTERS.node),
    scorers,
    verdicts: new Map(),
  }
}

export interface Found {
  readonly node: NodeState | undefined
  /** How many blocks the search went by: the next one begins that much further on. */
  readonly blocks: number
}

/**
 * The best of a sample of the nodes that fit. Of equals, that of the least `order`, which is another for each run, so that
 * equal nodes get their turns, and the same for the same run, so that a decision can be repeated.
 */
export function schedule(blocks: readonly Block[], search: Search, run: RunId, start: number, sample = SAMPLE): Found {
  const step = strideOf(blocks.length)
  const salt = hashOf(run)
  let best: NodeState | undefined
  let bestScore = -1
  let fitting = 0
  let i = 0
  for (let at = start % blocks.length; i < blocks.length && fitting < sample; i++, at = (at + step) % blocks.length) {
    const block = blocks[at]
    if (block === undefined || refuses(block, search)) continue
    let fits = 0
    for (const node of block.nodes) {
      if (nodeRefusal(node, search) !== undefined) continue
      fits++
      const score = scoreOf(node, search.ask, search.scorers)
      if (best === undefined || score > bestScore || (score === bestScore && order(node, salt) < order(best, salt))) {
        best = node
        bestScore = score
      }
    }
    if (fits === 0) block.tighten()
    fitting += fits
  }
  return { node: best, blocks: i * step }
}

/** Why the node will not do; undefined if it will. */
export function refusal(node: NodeState, search: Search): string | undefined {
  return kindRefusal(node.kind, search) ?? nodeRefusal(node, search)
}

const refuses = (block: Block, search: Search): boolean =>
  kindRefusal(block.kind, search) !== null || firstReason(search.freeFilters, block.free, search.ask) !== undefined

function kindRefusal(kind: NodeKind, search: Search): string | null {
  let verdict = search.verdicts.get(kind)
  if (verdict === undefined) {
    verdict = firstReason(search.kindFilters, kind, search.ask) ?? null
    search.verdicts.set(kind, verdict)
  }
  return verdict
}

const nodeRefusal = (node: NodeState, { freeFilters, nodeFilters, ask }: Search) =>
  firstReason(freeFilters, node.free, ask) ?? firstReason(nodeFilters, node, ask)

function firstReason<On>(filters: readonly Filter<On>[], on: On, ask: Wanted): string | undefined {
  for (const filter of filters) {
    const reason = filter.run(on, ask)
    if (reason !== undefined) return reason
  }
  return undefined
}

const order = (node: NodeState, salt: number): number => Math.imul(node.seed ^ salt, 0x9e3779b1) >>> 0

/** How far apart a search takes its blocks: about the golden section of the whole, and such that it comes by every one. */
export function strideOf(length: number): number {
  for (let stride = Math.max(1, Math.floor(length * 0.618)); ; stride--) if (coprime(stride, length)) return stride
}

const coprime = (a: number, b: number): boolean => (b === 0 ? a === 1 : coprime(b, a % b))
