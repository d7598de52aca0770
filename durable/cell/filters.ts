/**
 * What a node must have for a run to go there. Each filter is a value; its reason is what the tenant reads, so it names no node.
 *
 * A filter says what it looks at, because most of the work of a search is not to look: one of a `NodeKind` speaks for all nodes
 * of the kind, one of `Free` for a whole block of nodes as well as for one.
 */
import { type Feature, FEATURES } from "../../schema/features.ts"
import { chooseDevices, kindsOf, shortage, tooFew } from "./devices.ts"
import type { Free, NodeKind, NodeState, Wanted } from "./node-state.ts"

export interface Filter<On> {
  readonly name: string
  /** False when an ask passes on every node, so that none need be looked at. Absent: it concerns every ask. */
  concerns?(ask: Wanted): boolean
  /**
   * Undefined when the node passes; else the reason, one constant sentence, so that refusing allocates nothing;
   * only a want of devices names their kind.
   */
  run(on: On, ask: Wanted): string | undefined
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

const offersProfile: Filter<NodeKind> = {
  name: "profile",
  run: (kind, ask) => {
    const offer = kind.offers.get(ask.profile)
    if (offer === undefined) return "does not offer the isolation profile"
    const missing = ask.bits & ~offer.bits
    return missing === 0 ? undefined : WITHOUT[FEATURES[31 - Math.clz32(missing & -missing)] ?? "network"]
  },
}

const isForTenant: Filter<NodeKind> = {
  name: "exclusive",
  run: ({ exclusive_to }, ask) =>
    exclusive_to === null || exclusive_to.has(ask.tenant_id) ? undefined : "is kept for other tenants",
}

const hasLabels: Filter<NodeKind> = {
  name: "labels",
  concerns: (ask) => Object.keys(ask.placement.labels).length > 0,
  run: ({ labels }, ask) => {
    for (const key in ask.placement.labels)
      if (labels[key] !== ask.placement.labels[key]) return "does not have the labels asked for"
    return undefined
  },
}

const allowsOpenFiles: Filter<NodeKind> = {
  name: "open_files",
  run: (kind, ask) =>
    ask.resources.open_files <= kind.max_open_files ? undefined : "does not allow a process so many open files",
}

const isSound: Filter<NodeKind> = {
  name: "vulnerabilities",
  concerns: (ask) => ask.refuse_vulnerable,
  run: (kind) => (kind.vulnerable ? "has a known vulnerability, which the policy refuses" : undefined),
}

const hasSpreadLabel: Filter<NodeKind> = {
  name: "spread_label",
  concerns: ({ placement: { spread } }) => spread !== undefined && spread.by !== "node",
  run: ({ labels }, { placement: { spread } }) =>
    spread !== undefined && labels[spread.by] === undefined ? "does not have the label that its group is spread by" : undefined,
}

const hasDeviceKinds: Filter<NodeKind> = {
  name: "device_kinds",
  concerns: (ask) => ask.resources.accelerators.length > 0,
  run: ({ devices }, { resources: { accelerators } }) => {
    const lacking = accelerators.find((request) => !kindsOf(request).some((kind) => devices.has(kind)))
    return lacking && tooFew([lacking])
  },
}

const isReady: Filter<Free> = { name: "ready", run: ({ ready }) => (ready ? undefined : "is not ready") }

const hasRunSlot: Filter<Free> = {
  name: "runs",
  run: (free) => (free.runs > 0 ? undefined : "holds as many containers as it may"),
}

const hasCpus: Filter<Free> = {
  name: "cpus",
  run: (free, { need }) => (need.millicpus <= free.millicpus ? undefined : "has too few processors free"),
}

const hasMemory: Filter<Free> = {
  name: "memory",
  run: (free, { need }) => (need.memory_bytes <= free.memory_bytes ? undefined : "has too little memory free"),
}

const hasPids: Filter<Free> = {
  name: "pids",
  run: (free, { need }) => (need.pids <= free.pids ? undefined : "has too few process ids free"),
}

const hasDisk: Filter<Free> = {
  name: "disk",
  run: (free, { need }) => (need.disk_bytes <= free.disk_bytes ? undefined : "has too little disk space free"),
}

const hasAnyDevices: Filter<Free> = {
  name: "any_devices",
  concerns: (ask) => ask.need.devices > 0,
  run: (free, { need, resources }) => (need.devices <= free.devices ? undefined : tooFew(resources.accelerators)),
}

const hasDevices: Filter<NodeState> = {
  name: "devices",
  concerns: (ask) => ask.resources.accelerators.length > 0,
  run: ({ shelf, taken }, { resources: { accelerators } }) =>
    chooseDevices(shelf, taken, accelerators) === undefined ? shortage(shelf, taken, accelerators) : undefined,
}

const isBelowSpreadLimit: Filter<NodeState> = {
  name: "spread_limit",
  concerns: ({ placement }) => placement.spread !== undefined,
  run: (node, { group, groups, placement: { spread } }) => {
    if (spread === undefined || group === null) return undefined
    if (spread.by === "node")
      return groups.on(group, node) < spread.limit ? undefined : "holds as many of its group as may be on one node"
    const value = node.kind.labels[spread.by]
    if (value === undefined || groups.among(group, spread.by, value) < spread.limit) return undefined
    return "has a label of whose value no more nodes may be used by its group"
  },
}

const isNotAvoided: Filter<NodeState> = {
  name: "anti_affinity",
  concerns: ({ group, averse }) => group !== null || averse.length > 0,
  run: (node, { group, averse, groups }) => {
    for (const key of averse) if (groups.on(key, node) > 0) return "holds a container that it must not share a node with"
    return group !== null && groups.isAvoided(group, node) ? "holds a container that must not share a node with it" : undefined
  },
}

export interface Filters {
  readonly kind: readonly Filter<NodeKind>[]
  readonly free: readonly Filter<Free>[]
  readonly node: readonly Filter<NodeState>[]
}

/** In order; the first that refuses gives the reason. What never changes for a node comes before what does. */
export const FILTERS: Filters = {
  kind: [offersProfile, isForTenant, hasLabels, hasSpreadLabel, allowsOpenFiles, isSound, hasDeviceKinds],
  free: [isReady, hasRunSlot, hasCpus, hasMemory, hasPids, hasDisk, hasAnyDevices],
  node: [hasDevices, isBelowSpreadLimit, isNotAvoided],
}
