/** Which of the nodes that fit is best. Every score lies in [0, 1]; the operator's weights are applied outside. */
import type { SCORERS as NAMES, Weights } from "../../schema/api.ts"
import type { NodeState, Wanted } from "./node-state.ts"
import { failuresAt } from "./track-record.ts"

export interface Scorer {
  readonly name: (typeof NAMES)[number]
  /**
   * How good the node is for the run, in [0, 1]. The node fits: what is asked is free. `cpus` and `memory` are the parts of it
   * that are reserved once the run is there.
   */
  run(cpus: number, memory: number, node: NodeState, ask: Wanted): number
}

export interface Weighted {
  readonly scorer: Scorer
  readonly weight: number
}

const clamp = (score: number) => Math.min(1, Math.max(0, score))

/** Less loaded is better: one host's end takes fewer containers with it, and neighbours disturb each other less. */
const spread: Scorer = { name: "spread", run: (cpus, memory) => clamp(1 - (cpus + memory) / 2) }

/** More loaded is better: whole nodes stay free, for large containers or to be taken away. */
const binPack: Scorer = { name: "bin_pack", run: (cpus, memory) => clamp((cpus + memory) / 2) }

/** Processors and memory used alike are better: neither is stranded for want of the other. */
const balance: Scorer = { name: "balance", run: (cpus, memory) => clamp(1 - Math.abs(cpus - memory)) }

/** Where its image has been run, it likely need not be pulled: a guess, for nodes delete images by their own rules. */
const image: Scorer = {
  name: "image",
  run: (_cpus, _memory, { record }, ask) => (record.images.includes(ask.image_hash) ? ask.images.pull(ask.image_hash) : 0),
}

/** One failure halves it, three quarter it, until they are forgotten. */
const failures: Scorer = { name: "failures", run: (_cpus, _memory, { record }, ask) => 1 / (1 + failuresAt(record, ask.now_ms)) }

export const SCORERS: readonly Scorer[] = [spread, binPack, balance, image, failures]

/** Those that count. */
export const weighted = (weights: Weights): readonly Weighted[] =>
  SCORERS.map((scorer) => ({ scorer, weight: weights[scorer.name] })).filter(({ weight }) => weight > 0)

export function scoreOf(node: NodeState, ask: Wanted, scorers: readonly Weighted[]): number {
  const [cpus, memory] = [cpuShare(node, ask), memoryShare(node, ask)]
  let sum = 0
  for (const { scorer, weight } of scorers) sum += weight * scorer.run(cpus, memory, node, ask)
  return sum
}

/** Each scorer's part, unweighted. */
export function scoresOf(node: NodeState, ask: Wanted): Record<string, number> {
  const [cpus, memory] = [cpuShare(node, ask), memoryShare(node, ask)]
  return Object.fromEntries(SCORERS.map((scorer) => [scorer.name, scorer.run(cpus, memory, node, ask)]))
}

const cpuShare = ({ used, capacity }: NodeState, { resources }: Wanted) => (used.cpus + resources.cpus) / capacity.cpus
const memoryShare = ({ used, capacity }: NodeState, { resources }: Wanted) =>
  (used.memory_bytes + resources.memory_bytes) / capacity.memory_bytes
