/** NodeObject's SQL: the node's own row, and the set of its assignments. */
import { and, asc, count, eq, isNotNull, lte, sql } from "drizzle-orm"
import type { RunId, TenantId } from "../../schema/ids.ts"
import type { Assignment, Reason } from "../../schema/protocol.ts"
import { assertions, assignments, node } from "../../schema/tables/node.ts"
import { type Database, prepareUpsert } from "../shared/database.ts"

export type NodeRow = typeof node.$inferSelect
export type AssignmentRow = typeof assignments.$inferSelect
export type Assigned = Pick<AssignmentRow, "run_id" | "tenant_id" | "orphaned">

/** Sessions begun within the lifetime of an assertion. A bridge that cannot stay connected backs off long before. */
const MAX_ASSERTIONS = 300

export class NodeStore {
  readonly #db: Database
  readonly #put: (row: AssignmentRow) => void
  readonly #byRun
  readonly #assignedTo
  readonly #markEnded
  readonly #setVersion
  /** The row as it lies in SQLite, of which this object is the only writer; undefined when it must be read again. */
  #node: NodeRow | undefined

  constructor(db: Database) {
    this.#db = db
    this.#put = prepareUpsert(db, assignments, assignments.run_id)
    this.#byRun = db
      .select()
      .from(assignments)
      .where(eq(assignments.run_id, sql.placeholder("run_id")))
      .prepare()
    const { run_id, tenant_id, orphaned } = assignments
    this.#assignedTo = db
      .select({ run_id, tenant_id, orphaned })
      .from(assignments)
      .where(eq(run_id, sql.placeholder("run_id")))
      .prepare()
    this.#markEnded = db
      .update(assignments)
      .set({ ended: true })
      .where(and(eq(run_id, sql.placeholder("run_id")), eq(assignments.ended, false)))
      .prepare()
    this.#setVersion = db
      .update(node)
      .set({ version: sql`${sql.placeholder("version")}` })
      .prepare()
  }

  transaction<T>(work: () => T): T {
    try {
      return this.#db.transaction(() => work())
    } catch (error) {
      this.#node = undefined // what it had written is not there
      throw error
    }
  }

  node(): NodeRow | undefined {
    return (this.#node ??= this.#db.select().from(node).get())
  }

  createNode(row: Pick<NodeRow, "node_id" | "cell_id" | "operator_labels">): void {
    const empty = { facts: null, condition: null, last_seen_ms: null, lease_until_ms: null }
    const values = { id: 1, ...row, ...empty, connected: false, version: 0, cell_due: false, forgotten: false }
    this.#db.insert(node).values(values).onConflictDoNothing().run()
  }

  updateNode(change: Partial<Omit<NodeRow, "id">>): void {
    this.#db.update(node).set(change).run()
    this.#node &&= { ...this.#node, ...change }
  }

  /** `updateNode` of what every assignment changes. */
  setVersion(version: number): void {
    this.#setVersion.run({ version })
    this.#node &&= { ...this.#node, version }
  }

  /** Whether a session may begin with this assertion; from now on none may. */
  useAssertion(id: string, expires_at_ms: number, now: number): "new" | "used" | "too_many" {
    return this.#db.transaction((tx) => {
      tx.delete(assertions).where(lte(assertions.expires_at_ms, now)).run()
      if (tx.select().from(assertions).where(eq(assertions.id, id)).get()) return "used"
      if ((tx.select({ kept: count() }).from(assertions).get()?.kept ?? 0) >= MAX_ASSERTIONS) return "too_many"
      tx.insert(assertions).values({ id, expires_at_ms }).run()
      return "new"
    })
  }

  assignment(run_id: RunId): AssignmentRow | undefined {
    return this.#byRun.get({ run_id })
  }

  /** The little of it that a report asks for: reading what is to be run costs the most. */
  assigned(run_id: RunId): Assigned | undefined {
    return this.#assignedTo.get({ run_id })
  }

  markEnded(runs: readonly RunId[]): void {
    for (const run_id of runs) this.#markEnded.run({ run_id })
  }

  /** In the order in which they were made, which the ids keep. */
  assignments(): AssignmentRow[] {
    return this.#db.select().from(assignments).orderBy(asc(assignments.run_id)).all()
  }

  put(row: AssignmentRow): void {
    this.#put(row)
  }

  /** Nothing of it is left on the host. One whose tenant has yet to hear of its end stays until then. */
  remove(run_id: RunId): void {
    this.#db.delete(assignments).where(eq(assignments.run_id, run_id)).run()
  }

  clear(): void {
    this.#db.delete(assignments).run()
  }

  hasLive(): boolean {
    return this.countLive() > 0
  }

  countLive(): number {
    const counted = this.#db
      .select({ live: count() })
      .from(assignments)
      .where(sql`ended = 0`)
      .get()
    return counted?.live ?? 0
  }

  live(): AssignmentRow[] {
    return this.#db
      .select()
      .from(assignments)
      .where(sql`ended = 0`)
      .all()
  }

  orphaned(): AssignmentRow[] {
    return this.#db.select().from(assignments).where(isNotNull(assignments.orphaned)).all()
  }

  orphansTold(tenant: TenantId, runs: readonly RunId[]): void {
    for (const run of runs) {
      const mine = and(eq(assignments.tenant_id, tenant), eq(assignments.run_id, run))
      this.#db.update(assignments).set({ orphaned: null }).where(mine).run()
    }
  }

  /** Live ones that are kept while the node is cut off. */
  cutOff(): AssignmentRow[] {
    return this.live().filter((row) => row.cut_off)
  }

  /** Marks them, and that their tenants have yet to hear it. */
  setCutOff(rows: readonly AssignmentRow[], cut_off: boolean): void {
    for (const { run_id } of rows)
      this.#db.update(assignments).set({ cut_off, cut_off_due: true }).where(eq(assignments.run_id, run_id)).run()
  }

  cutOffDue(): AssignmentRow[] {
    return this.#db
      .select()
      .from(assignments)
      .where(sql`cut_off_due = 1`)
      .all()
  }

  /** Of those that have changed since, the tenant has yet to hear. */
  cutOffTold(tenant: TenantId, runs: readonly RunId[], cut_off: boolean): void {
    for (const run of runs) {
      const told = and(eq(assignments.tenant_id, tenant), eq(assignments.run_id, run), eq(assignments.cut_off, cut_off))
      this.#db.update(assignments).set({ cut_off_due: false }).where(told).run()
    }
  }

  /** Whether the cell has yet to hear anything; before its first hello there is nothing to say of a node. */
  owesCell(): boolean {
    const known = this.node()
    return known?.cell_due === true && (known.facts !== null || known.forgotten)
  }

  /** Whether a tenant has yet to hear anything. */
  owesTenants(): boolean {
    const drain = this.node()?.drain
    if (drain && drain.due !== null && this.hasLive()) return true
    return this.orphaned().length > 0 || this.cutOffDue().length > 0
  }
}

/** The row with the wish to destroy the run. */
export const destroying = (row: AssignmentRow): AssignmentRow => ({
  ...row,
  desired: "removed",
  body: { ...row.body, desired: "removed", paused: false, stop_timeout_seconds: 0 },
})

/** The row with the platform's wish that the run stop, as its own spec says. */
export const stopping = (row: AssignmentRow, stop_reason: Reason): AssignmentRow => ({
  ...row,
  desired: "stopped",
  body: { ...row.body, desired: "stopped", stop_reason },
})

export const orphaning = (row: AssignmentRow, reason: Reason): AssignmentRow => ({
  ...destroying(row),
  ended: true,
  orphaned: reason,
  cut_off: false,
  cut_off_due: false,
})

export const rowOf = (body: Assignment, known: AssignmentRow | undefined): AssignmentRow => ({
  run_id: body.run_id,
  tenant_id: body.tenant_id,
  container_id: body.container_id,
  desired: body.desired,
  body,
  ended: known?.ended ?? false,
  orphaned: known?.orphaned ?? null,
  cut_off: known?.cut_off ?? false,
  cut_off_due: known?.cut_off_due ?? false,
})
