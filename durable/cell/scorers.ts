/** Which of the nodes that fit is best. Every score lies in [0, 1]; the operator's weights are applied outside. */
import type { SCORERS as NAMES, Weights } from "../../schema/api.ts"
import type { NodeState, Wanted } from "./node-state.ts"
import { failuresAt } from "./track-record.ts"

export interface Scorer {
  readonly name: (typeof NAMES)[number]
  /** How good the node is for the run, in [0, 1]. The node fits: what is asked is free. */
  run(node: NodeState, ask: Wanted): number
}

export interface Weighted {
  readonly scorer: Scorer
  readonly weight: number
}

const cpuShare = ({ used, capacity }: NodeState, ask: Wanted) => (used.cpus + ask.resources.cpus) / capacity.cpus
const memoryShare = ({ used, capacity }: NodeState, ask: Wanted) =>
  (used.memory_bytes + ask.resources.memory_bytes) / capacity.memory_bytes
const load = (node: NodeState, ask: Wanted) => clamp((cpuShare(node, ask) + memoryShare(node, ask)) / 2)
const clamp = (score: number) => Math.min(1, Math.max(0, score))

/** Less loaded is better: one host's end takes fewer containers with it, and neighbours disturb each other less. */
const spread: Scorer = { name: "spread", run: (node, ask) => 1 - load(node, ask) }

/** More loaded is better: whole nodes stay free, for large containers or to be taken away. */
const binPack: Scorer = { name: "bin_pack", run: (node, ask) => load(node, ask) }

/** Processors and memory used alike are better: neither is stranded for want of the other. */
const balance: Scorer = {
  name: "balance",
  run: (node, ask) => clamp(1 - Math.abs(cpuShare(node, ask) - memoryShare(node, ask))),
}

/** Where its image has been run, it likely need not be pulled: a guess, for nodes delete images by their own rules. */
const image: Scorer = { name: "image", run: ({ record }, ask) => (record.images.includes(ask.image_hash) ? 1 : 0) }

/** One failure halves it, three quarter it, until they are forgotten. */
const failures: Scorer = { name: "failures", run: ({ record }, ask) => 1 / (1 + failuresAt(record, ask.now_ms)) }

export const SCORERS: readonly Scorer[] = [spread, binPack, balance, image, failures]

/** Those that count. */
export const weighted = (weights: Weights): readonly Weighted[] =>
  SCORERS.map((scorer) => ({ scorer, weight: weights[scorer.name] })).filter(({ weight }) => weight > 0)
