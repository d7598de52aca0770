/** The SQL of the audit log, in its tenant's database. */
import { asc, desc, gt, lt, min } from "drizzle-orm"
import { auditEntries } from "../../schema/tables/tenant.ts"
import type { Database } from "../shared/database.ts"

export type AuditRow = typeof auditEntries.$inferSelect

export class AuditStore {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  add(row: AuditRow): void {
    this.#db.insert(auditEntries).values(row).run()
  }

  last(): AuditRow | undefined {
    return this.#db.select().from(auditEntries).orderBy(desc(auditEntries.seq)).limit(1).get()
  }

  after(seq: number, limit: number): AuditRow[] {
    return this.#db.select().from(auditEntries).where(gt(auditEntries.seq, seq)).orderBy(asc(auditEntries.seq)).limit(limit).all()
  }

  /** Deletes what is older, but never the last: the next one is chained to it. */
  collect(beforeMs: number): void {
    const first = this.#db
      .select({ seq: min(auditEntries.seq) })
      .from(auditEntries)
      .where(gt(auditEntries.time_ms, beforeMs))
      .get()?.seq
    const keep = first ?? this.last()?.seq
    if (keep != null) this.#db.delete(auditEntries).where(lt(auditEntries.seq, keep)).run()
  }

  oldestMs(): number | null {
    return (
      this.#db.select({ at: auditEntries.time_ms }).from(auditEntries).orderBy(asc(auditEntries.seq)).limit(1).get()?.at ?? null
    )
  }
}
