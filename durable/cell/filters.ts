/** What a node must have for a run to go there. Each filter is a value; its reason is what the tenant reads, so it names no node. */
import { type Feature, FEATURES } from "../../schema/features.ts"
import { chooseDevices, shortage } from "./devices.ts"
import type { NodeState, Wanted } from "./node-state.ts"

export interface Filter {
  readonly name: string
  /** False when an ask passes on every node, so that none need be looked at. Absent: it concerns every ask. */
  concerns?(ask: Wanted): boolean
  /**
   * Undefined when the node passes; else the reason, one constant sentence, so that refusing allocates nothing;
   * only a want of devices names their kind.
   */
  run(node: NodeState, ask: Wanted): string | undefined
}

const WITHOUT: Record<Feature, string> = {
  network: "cannot give that isolation profile a network",
  bandwidth: "cannot limit network bandwidth under that isolation profile",
  seccomp: "cannot refuse more system calls under that isolation profile",
  io_limits: "cannot limit disk I/O",
  buffered_io_limits: "cannot limit buffered disk I/O",
  io_weight: "cannot weigh disk I/O",
  accelerators: "cannot give devices to that isolation profile",
  pause: "cannot pause that isolation profile",
  disk_quota: "cannot limit disk space",
}

const offersProfile: Filter = {
  name: "profile",
  run: (node, ask) => {
    const offer = node.offers.get(ask.profile)
    if (offer === undefined) return "does not offer the isolation profile"
    const missing = ask.bits & ~offer.bits
    return missing === 0 ? undefined : WITHOUT[FEATURES[31 - Math.clz32(missing & -missing)] ?? "network"]
  },
}

const allowsOpenFiles: Filter = {
  name: "open_files",
  run: (node, ask) =>
    ask.resources.open_files <= node.max_open_files ? undefined : "does not allow a process so many open files",
}

const isSound: Filter = {
  name: "vulnerabilities",
  concerns: (ask) => ask.refuse_vulnerable,
  run: (node, ask) =>
    ask.refuse_vulnerable && node.vulnerable ? "has a known vulnerability, which the policy refuses" : undefined,
}

const isReady: Filter = { name: "ready", run: (node) => (node.ready ? undefined : "is not ready") }

const hasLabels: Filter = {
  name: "labels",
  concerns: (ask) => Object.keys(ask.placement.labels).length > 0,
  run: (node, ask) => {
    for (const key in ask.placement.labels)
      if (node.labels[key] !== ask.placement.labels[key]) return "does not have the labels asked for"
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

const hasDisk: Filter = {
  name: "disk",
  run: (node, ask) =>
    node.used.disk_bytes + ask.resources.disk_bytes <= node.capacity.disk_bytes ? undefined : "has too little disk space free",
}

const hasDevices: Filter = {
  name: "devices",
  concerns: (ask) => ask.resources.accelerators.length > 0,
  run: ({ shelf, taken }, { resources }) => {
    if (resources.accelerators.length === 0 || chooseDevices(shelf, taken, resources.accelerators) !== undefined) return undefined
    return shortage(shelf, taken, resources.accelerators)
  },
}

/** In order; the first that refuses gives the reason. What never changes for a node comes before what does. */
export const FILTERS: readonly Filter[] = [
  offersProfile, hasLabels, allowsOpenFiles, isSound, isReady, hasRunSlot, hasCpus, hasMemory, hasPids, hasDisk, hasDevices,
] // prettier-ignore
