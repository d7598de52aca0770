/** CellObject's SQL. Batches go through `json_each` in one statement: an object's SQLite takes 100 bound parameters only. */
import { asc, eq, isNotNull, or, sql } from "drizzle-orm"
import type { Weights } from "../../schema/api.ts"
import type { CellId, NodeId, RunId, TenantId } from "../../schema/ids.ts"
import type { Device } from "../../schema/node.ts"
import type { Reason } from "../../schema/protocol.ts"
import { identity, nodes, reservations, trackRecords, waiting } from "../../schema/tables/cell.ts"
import { type Database, prepareUpsert } from "../shared/database.ts"
import type { Membership } from "./groups.ts"
import type { TrackRecord } from "./node-state.ts"

export type NodeRow = typeof nodes.$inferSelect
export type ReservationRow = typeof reservations.$inferSelect

export interface Reserved {
  readonly cpus: number
  readonly memory_bytes: number
  readonly pids: number
  readonly disk_bytes: number
  readonly devices: readonly string[] | null
}

/** What a run has been given. */
export interface Place {
  readonly node_id: NodeId
  readonly devices: string[]
}

const listIn = (text: string | null): string[] | null => (text === null ? null : (JSON.parse(text) as string[]))

export class CellStore {
  readonly #db: Database
  readonly #sql: SqlStorage
  readonly #putNode: (row: NodeRow) => void

  constructor(db: Database, rawSql: SqlStorage) {
    this.#db = db
    this.#sql = rawSql
    this.#putNode = prepareUpsert(db, nodes, nodes.node_id)
  }

  identity(): typeof identity.$inferSelect | undefined {
    return this.#db.select().from(identity).get()
  }

  saveCellId(cell_id: CellId): void {
    this.#db.insert(identity).values({ id: 1, cell_id }).onConflictDoNothing().run()
  }

  saveWeights(weights: Weights, revision: number): void {
    this.#db.update(identity).set({ weights, revision }).run()
  }

  nodes(): NodeRow[] {
    return this.#db.select().from(nodes).orderBy(asc(nodes.node_id)).all()
  }

  devicesOf(id: NodeId): Device[] {
    return this.#db.select({ devices: nodes.devices }).from(nodes).where(eq(nodes.node_id, id)).get()?.devices ?? []
  }

  putNode(row: NodeRow): void {
    this.#putNode(row)
  }

  setReady(id: NodeId, ready: boolean, reason: Reason | null): void {
    this.#db.update(nodes).set({ ready, reason }).where(eq(nodes.node_id, id)).run()
  }

  /** The node, what is reserved on it, all of it. */
  forgetNode(id: NodeId): void {
    this.#db.transaction((tx) => {
      tx.delete(reservations).where(eq(reservations.node_id, id)).run()
      tx.delete(trackRecords).where(eq(trackRecords.node_id, id)).run()
      tx.delete(nodes).where(eq(nodes.node_id, id)).run()
    })
  }

  reservedByNode(): (Omit<Reserved, "devices"> & { node_id: NodeId; runs: number })[] {
    return this.#db
      .select({
        node_id: reservations.node_id,
        runs: sql<number>`count(*)`,
        cpus: sql<number>`total(${reservations.cpus})`,
        memory_bytes: sql<number>`sum(${reservations.memory_bytes})`,
        pids: sql<number>`sum(${reservations.pids})`,
        disk_bytes: sql<number>`sum(${reservations.disk_bytes})`,
      })
      .from(reservations)
      .groupBy(reservations.node_id)
      .all()
  }

  /** The devices of the few runs that hold any; `reservedByNode` leaves them out. */
  reservedDevices(): { node_id: NodeId; devices: string[] | null }[] {
    const { node_id, devices } = reservations
    return this.#db.select({ node_id, devices }).from(reservations).where(isNotNull(devices)).all()
  }

  /** Of the runs that placement looks at for others. */
  memberships(): (Membership & { node_id: NodeId })[] {
    const { node_id, group, anti_affinity } = reservations
    const named = or(isNotNull(group), isNotNull(anti_affinity))
    return this.#db.select({ node_id, group, anti_affinity }).from(reservations).where(named).all()
  }

  trackRecords(): (TrackRecord & { node_id: NodeId })[] {
    return this.#db.select().from(trackRecords).all()
  }

  putTrackRecords(records: readonly (TrackRecord & { node_id: NodeId })[]): void {
    if (records.length === 0) return
    this.#sql.exec(
      `insert or replace into track_records (node_id, images, failures, failed_at_ms)
       select value->>0, value->>1, value->>2, value->>3 from json_each(?)`,
      JSON.stringify(records.map(({ node_id, images, failures, failed_at_ms }) => [node_id, images, failures, failed_at_ms])),
    )
  }

  /** Where runs that are placed already are. */
  placesOf(runs: readonly RunId[]): Map<RunId, Place> {
    const rows = this.#sql.exec<{ run_id: RunId; node_id: NodeId; devices: string | null }>(
      "select run_id, node_id, devices from reservations where run_id in (select value from json_each(?))",
      JSON.stringify(runs),
    )
    return new Map([...rows].map((row) => [row.run_id, { node_id: row.node_id, devices: listIn(row.devices) ?? [] }]))
  }

  reserve(rows: readonly ReservationRow[]): void {
    if (rows.length === 0) return
    this.#sql.exec(
      `insert into reservations (run_id, node_id, cpus, memory_bytes, pids, disk_bytes, devices, "group", anti_affinity)
       select value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8 from json_each(?)`,
      JSON.stringify(
        rows.map(
          ({ run_id, node_id, cpus, memory_bytes, pids, disk_bytes, devices, group, anti_affinity }) =>
          [run_id, node_id, cpus, memory_bytes, pids, disk_bytes, devices, group, anti_affinity], // prettier-ignore
        ),
      ),
    )
  }

  /** What was held and is not any more: a run that holds nothing gives nothing back. */
  release(runs: readonly RunId[]): ReservationRow[] {
    const rows = this.#sql.exec<{
      [K in keyof ReservationRow]: K extends "devices" | "anti_affinity" ? string | null : ReservationRow[K] & SqlStorageValue
    }>("delete from reservations where run_id in (select value from json_each(?)) returning *", JSON.stringify(runs))
    return rows.toArray().map((row) => ({ ...row, devices: listIn(row.devices), anti_affinity: listIn(row.anti_affinity) }))
  }

  /** A tenant that waits already keeps its place. */
  addWaiting(tenants: readonly TenantId[], now: number): void {
    for (const tenant_id of tenants) this.#db.insert(waiting).values({ tenant_id, since_ms: now }).onConflictDoNothing().run()
  }

  /** Takes the tenants that have waited longest. */
  takeWaiting(limit: number): TenantId[] {
    const first = this.#db
      .select({ tenant_id: waiting.tenant_id })
      .from(waiting)
      .orderBy(asc(waiting.since_ms))
      .limit(limit)
      .all()
    for (const { tenant_id } of first) this.#db.delete(waiting).where(eq(waiting.tenant_id, tenant_id)).run()
    return first.map((row) => row.tenant_id)
  }
}
