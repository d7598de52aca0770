/** Operators' audit log in D1. */
import { sha256 } from "@noble/hashes/sha2.js"
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js"
import { asc, desc, gt } from "drizzle-orm"
import type { DrizzleD1Database } from "drizzle-orm/d1"
import { AUDIT_GENESIS, type AuditEntry, hashedText } from "../schema/audit.ts"
import { auditEntries } from "../schema/tables/directory.ts"

type AuditRow = typeof auditEntries.$inferSelect

/** Calls of operators at the same instant; each takes the next place until one is its own. */
const MAX_TRIES = 20

export const auditRecords = (db: DrizzleD1Database) => ({
  /** @throws Error when the place after the last was always taken by others. */
  async add(
    told: Pick<AuditRow, "subject" | "token_id" | "request_id" | "operation" | "target" | "result">,
    time_ms: number,
  ): Promise<void> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const { seq, hash: previous } = await this.head()
      const entry = { seq: seq + 1, time_ms, ...told, previous }
      const hash = bytesToHex(sha256(utf8ToBytes(hashedText(viewOf(entry)))))
      const added = await db
        .insert(auditEntries)
        .values({ ...entry, hash })
        .onConflictDoNothing()
        .returning({ seq: auditEntries.seq })
      if (added.length > 0) return
    }
    throw new Error("the operators' audit log could not be written: others were always first")
  },

  async head(): Promise<{ seq: number; hash: string }> {
    const last = await db.select().from(auditEntries).orderBy(desc(auditEntries.seq)).limit(1).get()
    return { seq: last?.seq ?? 0, hash: last?.hash ?? AUDIT_GENESIS }
  },

  async after(seq: number, limit: number): Promise<AuditEntry[]> {
    const rows = await db.select().from(auditEntries).where(gt(auditEntries.seq, seq)).orderBy(asc(auditEntries.seq)).limit(limit)
    return rows.map((row) => ({ ...viewOf(row), hash: row.hash }))
  },
})

function viewOf({ time_ms, ...row }: Omit<AuditRow, "hash">): Omit<AuditEntry, "hash"> {
  const { seq, subject, token_id, request_id, operation, target, result, previous } = row
  return { seq, time: new Date(time_ms).toISOString(), subject, token_id, request_id, operation, target, result, previous }
}
