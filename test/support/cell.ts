/** Nodes, asks and the ledger of a cell, without the object around them. */
import type { z } from "zod"
import { CapacityLedger } from "../../durable/cell/ledger.ts"
import type { NodeState } from "../../durable/cell/node-state.ts"
import { searchFor } from "../../durable/cell/schedule.ts"
import { weighted } from "../../durable/cell/scorers.ts"
import type { NodeRow, ReservationRow } from "../../durable/cell/store.ts"
import type { Ask } from "../../durable/shared/rpc.ts"
import { Weights } from "../../schema/api.ts"
import { PlacementWish, Resources } from "../../schema/container.ts"
import { type Feature, FEATURES } from "../../schema/features.ts"
import type { NodeId } from "../../schema/ids.ts"
import type { ProfileOffer } from "../../schema/node.ts"
import { anId, GIB } from "./factories.ts"

export const CAPACITY = { cpus: 4, memory_bytes: 8 * GIB, pids: 1000, runs: 10, disk_bytes: 10 * GIB }

export const offering = (...features: Feature[]): ProfileOffer[] => [{ name: "hardened", runtime: "crun", features }]

export const aNodeRow = (changes: Partial<NodeRow> = {}): NodeRow => ({
  node_id: anId("nod"),
  hostname: "host",
  capacity: CAPACITY,
  labels: {},
  profiles: offering(...FEATURES),
  devices: [],
  max_open_files: 1_048_576,
  vulnerable: false,
  exclusive_to: null,
  ready: true,
  reason: null,
  ...changes,
})

export const someResources = (changes: z.input<typeof Resources> = {}) =>
  Resources.parse({ cpus: 1, memory_bytes: GIB, pids: 100, ...changes })

type AskChanges = Partial<Omit<Ask, "placement">> & { readonly placement?: z.input<typeof PlacementWish> }

export const anAsk = ({ placement = {}, ...changes }: AskChanges = {}): Ask => ({
  run_ids: [anId("run")],
  tenant_id: anId("ten"),
  image: "app:1",
  resources: someResources(),
  profile: "hardened",
  features: ["disk_quota"],
  refuse_vulnerable: false,
  placement: PlacementWish.parse(placement),
  ...changes,
})

export const aSearch = (ledger: CapacityLedger, ask: Ask, weights: Partial<Weights> = {}, now_ms = 0) =>
  searchFor(ask, { groups: ledger.groups, images: ledger.images, now_ms }, weighted({ ...Weights.parse({}), ...weights }))

/** A ledger of these nodes, and what it knows of each, in their order. */
export function aLedgerOf(...rows: Partial<NodeRow>[]): { ledger: CapacityLedger; nodes: NodeState[] } {
  const ledger = new CapacityLedger()
  return { ledger, nodes: rows.map((row) => ledger.put(aNodeRow(row))) }
}

/** Books a run on a node as a placement would, whether it fits or not. */
export function book(ledger: CapacityLedger, node_id: NodeId, changes: Partial<ReservationRow> = {}): ReservationRow {
  const nothing = { cpus: 0, memory_bytes: 0, pids: 0, disk_bytes: 0, devices: null, group: null, anti_affinity: null }
  const row = { run_id: anId("run"), node_id, ...nothing, ...changes }
  ledger.reserve(node_id, row)
  return row
}
