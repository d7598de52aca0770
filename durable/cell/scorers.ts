/** Which of the nodes that fit is best. Every score lies in [0, 1]; weights are applied outside. */
import type { Ask } from "../shared/rpc.ts"
import type { NodeState } from "./node-state.ts"

export interface Scorer {
  readonly name: string
  /** How good the node is for the run, in [0, 1]. The node fits: what is asked is free. */
  run(node: NodeState, ask: Ask): number
}

const cpuShare = (node: NodeState, ask: Ask) => (node.used.cpus + ask.resources.cpus) / node.capacity.cpus
const memoryShare = (node: NodeState, ask: Ask) =>
  (node.used.memory_bytes + ask.resources.memory_bytes) / node.capacity.memory_bytes
const clamp = (score: number) => Math.min(1, Math.max(0, score))

/** Less loaded is better: one host's end takes fewer containers with it, and neighbours disturb each other less. */
const spread: Scorer = {
  name: "spread",
  run: (node, ask) => clamp(1 - (cpuShare(node, ask) + memoryShare(node, ask)) / 2),
}

/** Processors and memory used alike are better: neither is stranded for want of the other. */
const balance: Scorer = {
  name: "balance",
  run: (node, ask) => clamp(1 - Math.abs(cpuShare(node, ask) - memoryShare(node, ask))),
}

export const SCORERS: readonly { readonly scorer: Scorer; readonly weight: number }[] = [
  { scorer: spread, weight: 1 },
  { scorer: balance, weight: 0.5 },
]
