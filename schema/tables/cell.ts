/** CellObject's database: the nodes of one cell and what is reserved on them. Written by CellObject alone. */
import { integer, real, sqliteTable, text } from "drizzle-orm/sqlite-core"
import type { CellId, NodeId, RunId, TenantId } from "../ids.ts"
import type { Weights } from "../api.ts"
import type { Capacity, Device, ProfileOffer } from "../node.ts"
import type { Reason } from "../protocol.ts"
import { json } from "./columns.ts"

/** One row: which cell this is, learned from the first caller. */
export const identity = sqliteTable("identity", {
  id: integer().primaryKey(),
  cell_id: text().$type<CellId>().notNull(),
  /** From the operator, by the worker; null before it has set any. */
  weights: json<Weights | null>("weights"),
  revision: integer().notNull().default(0),
})

export const nodes = sqliteTable("nodes", {
  node_id: text().$type<NodeId>().primaryKey(),
  /* The node's word, by its NodeObject. */
  hostname: text().notNull(),
  capacity: json<Capacity>("capacity").notNull(),
  labels: json<Record<string, string>>("labels").notNull(),
  profiles: json<ProfileOffer[]>("profiles").notNull(),
  /** Those that are reserved stay here after the node has stopped naming them, as failed ones, until they are given back. */
  devices: json<Device[]>("devices").notNull().default([]),
  max_open_files: integer().notNull().default(0),
  /** Some version that the node reports has a known vulnerability. */
  vulnerable: integer({ mode: "boolean" }).notNull().default(false),
  /** Null: every tenant's. */
  exclusive_to: json<TenantId[] | null>("exclusive_to"),
  /* From the NodeObject: session, condition, lease, cordon. */
  ready: integer({ mode: "boolean" }).notNull(),
  reason: json<Reason | null>("reason"),
})

/**
 * Keyed by run, so that giving one back twice credits once. Not indexed by node: a batch lands on a thousand nodes and would
 * write as many pages of such an index, for the sake of questions that are asked when the object wakes or a node is forgotten.
 */
export const reservations = sqliteTable("reservations", {
  run_id: text().$type<RunId>().primaryKey(),
  node_id: text().$type<NodeId>().notNull(),
  cpus: real().notNull(),
  memory_bytes: integer().notNull(),
  pids: integer().notNull(),
  disk_bytes: integer().notNull().default(0),
  /** Null rather than an empty list: most runs have none. */
  devices: json<string[] | null>("devices"),
  /** Null where placement looks at no other run for it. `key` of a group: tenant and name. */
  group: text(),
  anti_affinity: json<string[] | null>("anti_affinity"),
})

/** How runs fared on a node: hints for choosing, which outlive the runs. */
export const trackRecords = sqliteTable("track_records", {
  node_id: text().$type<NodeId>().primaryKey(),
  /** Hashes of the images that it has run, latest last; few. */
  images: json<number[]>("images").notNull(),
  /** Runs that failed by no fault of their own, as they counted at `failed_at_ms`: they count less as time goes by. */
  failures: real().notNull(),
  failed_at_ms: integer().notNull(),
})

/** Tenants with a run that did not fit, first come first poked. */
export const waiting = sqliteTable("waiting", {
  tenant_id: text().$type<TenantId>().primaryKey(),
  since_ms: integer().notNull(),
})
