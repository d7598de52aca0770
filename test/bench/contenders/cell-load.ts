/** Loads for one cell: filling it evenly to its last place, and the shapes that Kubernetes' scheduler_perf publishes. */
import type { Ask, Placement } from "../../../durable/shared/rpc.ts"
import { MIB, PlacementWish, Resources } from "../../../schema/container.ts"
import { FEATURES } from "../../../schema/features.ts"
import type { RunId, TenantId } from "../../../schema/ids.ts"
import type { Device } from "../../../schema/node.ts"
import { type DrivenCell, newId, newRuns, type NodeOffer } from "./driven-cell.ts"

const GIB = 1024 * MIB
export const BATCH = 1000
/** How much more there is than is asked for, so that a search has a choice to the end. */
const SPARE = 1.25
const RUN = { cpus: 0.1, memory_bytes: 256 * MIB, pids: 64, disk_bytes: 256 * MIB }
const ZONES = ["a", "b", "c"]

export interface Series {
  /** Milliseconds of each call that placed a batch. */
  readonly batchMs: readonly number[]
  readonly placed: number
}

export const perSecond = (placed: number, ms: readonly number[]): number =>
  (placed * 1000) / ms.reduce((sum, one) => sum + one, 0)

/** Of the first and of the last tenth of the calls. */
export function tenths({ batchMs, placed }: Series): { first: number; last: number } {
  const some = Math.max(1, Math.floor(batchMs.length / 10))
  const part = (placed * some) / batchMs.length
  return { first: perSecond(part, batchMs.slice(0, some)), last: perSecond(part, batchMs.slice(-some)) }
}

export const nodeOffer = (index: number, capacity: NodeOffer["capacity"], devices: Device[] = []): NodeOffer => ({
  node_id: newId("nod"),
  hostname: `node-${index}`,
  capacity,
  labels: { region: "bench-1", zone: ZONES[index % ZONES.length] ?? "a" },
  profiles: [{ name: "hardened", runtime: "crun", features: [...FEATURES] }],
  devices,
  max_open_files: 1_048_576,
  vulnerable: false,
  exclusive_to: null,
})

/** Nodes that hold `total` of `anAsk`'s runs together and a quarter more. */
export function roomyNodes(count: number, total: number): NodeOffer[] {
  const runs = Math.ceil((total / count) * SPARE)
  const capacity = { cpus: runs * RUN.cpus, memory_bytes: runs * RUN.memory_bytes, pids: runs * RUN.pids, runs, disk_bytes: runs * RUN.disk_bytes } // prettier-ignore
  return Array.from({ length: count }, (_, i) => nodeOffer(i, capacity))
}

export const anAsk = (tenant_id: TenantId, run_ids: readonly RunId[], resources: Partial<Resources> = {}): Ask => ({
  run_ids,
  tenant_id,
  image: "registry.example/app:1",
  resources: { ...Resources.parse(RUN), ...resources },
  profile: "hardened",
  features: ["network", "disk_quota"],
  refuse_vulnerable: false,
  placement: PlacementWish.parse({}),
})

/** Places `total` runs on the cells in turn, a batch a call, each batch of one spec. Throws when one does not fit. */
export async function fill(cells: readonly DrivenCell[], total: number, signal: AbortSignal): Promise<Series> {
  const tenant = newId("ten")
  const batchMs: number[] = []
  for (let placed = 0; placed < total; placed += BATCH) {
    signal.throwIfAborted()
    const cell = cells[(placed / BATCH) % cells.length]
    const asks = [anAsk(tenant, newRuns(BATCH))]
    const from = performance.now()
    const placements = await cell?.place(asks)
    batchMs.push(performance.now() - from)
    if (placements === undefined || !placements.every(({ node_id }) => node_id !== null))
      throw new Error(`a run was refused after ${placed} had been placed`)
  }
  return { batchMs, placed: total }
}

/** Milliseconds of calls that place one run each. */
export async function singles(cell: DrivenCell, count: number, signal: AbortSignal): Promise<number[]> {
  const tenant = newId("ten")
  const ms: number[] = []
  for (let i = 0; i < count; i++) {
    signal.throwIfAborted()
    const asks = [anAsk(tenant, newRuns(1))]
    const from = performance.now()
    await cell.place(asks)
    ms.push(performance.now() - from)
  }
  return ms
}

/** A load after one of scheduler_perf's: 5,000 nodes of 4 processors, and 10,000 pods of which each is an ask of its own. */
export interface Shape {
  readonly id: string
  readonly what: string
  /** Pods per second that scheduler_perf's published threshold of this shape demands. */
  readonly floor: number
  nodes(count: number): NodeOffer[]
  ask(tenant: TenantId): Ask
  /** What goes on beside the pods that count, once for each batch of them; part of the time that is measured. */
  beside?(cell: DrivenCell, batch: number, placed: readonly Placement[], tenant: TenantId): Promise<void>
}

/** scheduler_perf's node-default.yaml and pod-default.yaml. */
const NODE = { cpus: 4, memory_bytes: 32 * GIB, pids: 1e6, runs: 110, disk_bytes: 1024 * GIB }
const POD = { cpus: 0.1, memory_bytes: 500 * MIB }
const plainNodes = (count: number) => Array.from({ length: count }, (_, i) => nodeOffer(i, NODE))
const GPUS = 8
const DEVICE = "bench.example/gpu"

const basic: Shape = {
  id: "basic",
  what: "Basic: pods that fit anywhere",
  floor: 810,
  nodes: plainNodes,
  ask: (tenant) => anAsk(tenant, newRuns(1), POD),
}

const churn: Shape = {
  ...basic,
  id: "churn",
  what: "MixedChurn: nodes come, go and flap, and runs end, beside the pods",
  floor: 710,
  beside: async (cell, batch, placed) => {
    const comes = nodeOffer(batch, NODE)
    await cell.register([comes])
    await cell.setReady(comes.node_id, false)
    await cell.release(placed.slice(0, 100).map(({ run_id }) => run_id))
    await cell.setReady(comes.node_id, true)
    await cell.forget(comes.node_id)
  },
}

const unschedulable: Shape = {
  ...basic,
  id: "unschedulable",
  what: "Unschedulable: as many pods that fit nowhere, and runs that end",
  floor: 590,
  beside: async (cell, _batch, placed, tenant) => {
    const refused = await cell.place(Array.from({ length: BATCH }, () => anAsk(tenant, newRuns(1), { cpus: 9 })))
    if (refused.some(({ node_id }) => node_id !== null)) throw new Error("a run of 9 processors was placed on a node of 4")
    await cell.release(placed.slice(0, 100).map(({ run_id }) => run_id))
  },
}

const extended: Shape = {
  id: "extended",
  what: `extended resources: each pod takes one of its node's ${GPUS} devices`,
  floor: 180,
  nodes: (count) =>
    Array.from({ length: count }, (_, i) =>
      nodeOffer(
        i,
        NODE,
        Array.from({ length: GPUS }, (_gpu, at) => ({ name: `${DEVICE}=${at}`, healthy: true, reason: null, parent: null })),
      ),
    ),
  ask: (tenant) => {
    const resources = Resources.parse({ accelerators: [{ kind: DEVICE, count: 1 }] })
    return { ...anAsk(tenant, newRuns(1), { ...POD, accelerators: resources.accelerators }), features: ["accelerators"] }
  },
}

export const SHAPES: readonly Shape[] = [basic, churn, unschedulable, extended]

/** Places `pods` of the shape, a thousand a call, and answers pods per second with all that went on beside. */
export async function runShape(
  cell: DrivenCell,
  shape: Shape,
  nodes: number,
  pods: number,
  signal: AbortSignal,
): Promise<number> {
  await cell.register(shape.nodes(nodes))
  const tenant = newId("ten")
  let ms = 0
  for (let batch = 0; batch * BATCH < pods; batch++) {
    signal.throwIfAborted()
    const asks = Array.from({ length: BATCH }, () => shape.ask(tenant))
    const from = performance.now()
    const placed = await cell.place(asks)
    if (placed.some(({ node_id }) => node_id === null)) throw new Error(`${shape.id}: a pod was refused`)
    await shape.beside?.(cell, batch, placed, tenant)
    ms += performance.now() - from
  }
  return (pods * 1000) / ms
}
