/** What a node must have for a run to go there. Each filter is a value; its reason is what the tenant reads, so it names no node. */
import type { Ask } from "../shared/rpc.ts"
import type { NodeState } from "./node-state.ts"

export interface Filter {
  readonly name: string
  /** Undefined when the node passes; else the reason, one constant sentence, so that refusing allocates nothing. */
  run(node: NodeState, ask: Ask): string | undefined
}

const isReady: Filter = { name: "ready", run: (node) => (node.ready ? undefined : "is not ready") }

const offersProfile: Filter = {
  name: "profile",
  run: (node, ask) => (node.profiles.has(ask.profile) ? undefined : "does not offer the isolation profile"),
}

const hasLabels: Filter = {
  name: "labels",
  run: (node, ask) => {
    for (const key in ask.labels) if (node.labels[key] !== ask.labels[key]) return "does not have the labels asked for"
    return undefined
  },
}

const hasRunSlot: Filter = {
  name: "runs",
  run: (node) => (node.used.runs < node.capacity.runs ? undefined : "holds as many containers as it may"),
}

/** Processors are compared in thousandths: sums of fractions must not trip over binary rounding. */
const hasCpus: Filter = {
  name: "cpus",
  run: (node, ask) =>
    Math.round((node.used.cpus + ask.resources.cpus) * 1000) <= Math.round(node.capacity.cpus * 1000)
      ? undefined
      : "has too few processors free",
}

const hasMemory: Filter = {
  name: "memory",
  run: (node, ask) =>
    node.used.memory_bytes + ask.resources.memory_bytes <= node.capacity.memory_bytes ? undefined : "has too little memory free",
}

const hasPids: Filter = {
  name: "pids",
  run: (node, ask) => (node.used.pids + ask.resources.pids <= node.capacity.pids ? undefined : "has too few process ids free"),
}

/** In order; the first that refuses gives the reason. What never changes for a node comes before what does. */
export const FILTERS: readonly Filter[] = [isReady, offersProfile, hasLabels, hasRunSlot, hasCpus, hasMemory, hasPids]
