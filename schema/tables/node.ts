/** NodeObject's database: who the node is, its lease, and the complete set of what it must make true. */
import { index, integer, sqliteTable, text } from "drizzle-orm/sqlite-core"
import { sql } from "drizzle-orm"
import type { CellId, ContainerId, NodeId, RunId, TenantId } from "../ids.ts"
import type { Desired } from "../lifecycle.ts"
import type { NodeFacts } from "../node.ts"
import type { Assignment, Condition, Reason } from "../protocol.ts"
import { json } from "./columns.ts"

/** One row. */
export const node = sqliteTable("node", {
  id: integer().primaryKey(),
  node_id: text().$type<NodeId>().notNull(),
  cell_id: text().$type<CellId>().notNull(),
  /* The node's word, from hello and condition messages. */
  facts: json<NodeFacts | null>("facts"),
  condition: json<Condition | null>("condition"),
  /* NodeObject. Written when a session begins or ends, never by a heartbeat. */
  connected: integer({ mode: "boolean" }).notNull(),
  last_seen_ms: integer(),
  /** The lease's end as last armed; null while no run is live. */
  lease_until_ms: integer(),
  /** Rises with every change of the assignment set: `results_in` of the protocol. */
  version: integer().notNull(),
  /** Labels that the operator gave; they outrank those in the facts. From the worker, at each connection. */
  operator_labels: json<Record<string, string>>("operator_labels").notNull(),
  /** Outbox: the cell has not yet heard what this node is and whether it may be given runs. */
  cell_due: integer({ mode: "boolean" }).notNull(),
  forgotten: integer({ mode: "boolean" }).notNull(),
  /* The operator's calls. */
  cordoned: integer({ mode: "boolean" }).notNull().default(false),
  cordon_reason: text(),
  drain: json<Drain | null>("drain"),
  exclusive_to: json<TenantId[] | null>("exclusive_to"),
})

export interface Drain {
  readonly since_ms: number
  readonly deadline_ms: number
  readonly runs_at_start: number
  /** Outbox: tenants that have yet to hear that it began, or that the deadline has come. */
  readonly due: "begun" | "over" | null
}

/** Assertions that a session was begun with: none is taken twice. Kept until they expire. */
export const assertions = sqliteTable("assertions", {
  /** SHA-256 of the assertion's `jti`, hex. */
  id: text().primaryKey(),
  expires_at_ms: integer().notNull(),
})

export const assignments = sqliteTable(
  "assignments",
  {
    run_id: text().$type<RunId>().primaryKey(),
    tenant_id: text().$type<TenantId>().notNull(),
    container_id: text().$type<ContainerId>().notNull(),
    /** From the TenantObject; `removed` is final here, so that a late repeat of an older wish cannot revive a run. */
    desired: text().$type<Desired>().notNull(),
    body: json<Assignment>("body").notNull(),
    /** True once the node reported a terminal state, or the run was given up: it no longer needs a lease. */
    ended: integer({ mode: "boolean" }).notNull(),
    /** Outbox: why the run was given up, until its tenant has heard it. */
    orphaned: json<Reason | null>("orphaned"),
    /** The lease ran out and the run is kept; outbox beside it: the tenant has yet to hear of the change. */
    cut_off: integer({ mode: "boolean" }).notNull().default(false),
    cut_off_due: integer({ mode: "boolean" }).notNull().default(false),
  },
  () => [
    index("assignments_live")
      .on(sql`ended`)
      .where(sql`ended = 0`),
    index("assignments_orphaned")
      .on(sql`orphaned`)
      .where(sql`orphaned is not null`),
    index("assignments_cut_off_due")
      .on(sql`cut_off_due`)
      .where(sql`cut_off_due = 1`),
  ],
)
