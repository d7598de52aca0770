/** The SQL of a tenant's tokens, of what was revoked, and of proofs that were shown. */
import { and, asc, eq, gt, inArray, isNull, lt, or, sql } from "drizzle-orm"
import type { TokenId, TrustId } from "../../schema/ids.ts"
import { proofs, revocations, tokens } from "../../schema/tables/tenant.ts"
import type { Database } from "../shared/database.ts"

export type TokenRow = typeof tokens.$inferSelect

export class TokenStore {
  readonly #db: Database
  readonly #byId

  constructor(db: Database) {
    this.#db = db
    this.#byId = db.select().from(tokens).where(eq(tokens.id, sql.placeholder("id"))).prepare() // prettier-ignore
  }

  byId(id: TokenId): TokenRow | undefined {
    return this.#byId.get({ id })
  }

  /** The same id again is the same token, made anew after a crash. */
  put(row: TokenRow): void {
    const { expires_at_ms } = row
    this.#db.insert(tokens).values(row).onConflictDoUpdate({ target: tokens.id, set: { expires_at_ms } }).run()
  }

  count(now: number): number {
    return this.#db.$count(tokens, gt(tokens.expires_at_ms, now)) as unknown as number
  }

  /** Oldest first. `of`: only that token and those made from it; null: all. */
  page(of: TokenId | null, after: string, limit: number): TokenRow[] {
    const theirs =
      of === null ? undefined : or(eq(tokens.id, of), sql`exists (select 1 from json_each(${tokens.chain}) where value = ${of})`)
    const wanted = and(gt(tokens.id, after as TokenId), theirs)
    return this.#db.select().from(tokens).where(wanted).orderBy(asc(tokens.id)).limit(limit).all() // prettier-ignore
  }

  used(id: TokenId, atMs: number): void {
    this.#db.update(tokens).set({ last_used_at_ms: atMs }).where(eq(tokens.id, id)).run()
  }

  revoke(id: TokenId | TrustId, untilMs: number, nowMs: number): void {
    this.#db.transaction(() => {
      this.#db.insert(revocations).values({ id, until_ms: untilMs }).onConflictDoNothing().run()
      const unrevoked = and(eq(tokens.id, id as TokenId), isNull(tokens.revoked_at_ms))
      this.#db.update(tokens).set({ revoked_at_ms: nowMs }).where(unrevoked).run()
    })
  }

  revoked(now: number): (TokenId | TrustId)[] {
    const rows = this.#db.select({ id: revocations.id }).from(revocations).where(gt(revocations.until_ms, now)).all()
    return rows.map(({ id }) => id)
  }

  /** Deletes what has long been past its time: rows come only with new tokens, so that is when old ones go. */
  collect(tokensBefore: number, now: number, limit: number): void {
    const old = this.#db.select({ id: tokens.id }).from(tokens).where(lt(tokens.expires_at_ms, tokensBefore)).limit(limit)
    this.#db.delete(tokens).where(inArray(tokens.id, old)).run()
    this.#db.delete(revocations).where(lt(revocations.until_ms, now)).run()
  }

  /** Whether this request is the first that shows the proof. */
  showProof(id: string, requestId: string, untilMs: number, now: number): boolean {
    const db = this.#db
    db.delete(proofs).where(lt(proofs.until_ms, now)).run()
    db.insert(proofs).values({ id, request_id: requestId, until_ms: untilMs }).onConflictDoNothing().run()
    return db.select().from(proofs).where(eq(proofs.id, id)).get()?.request_id === requestId
  }
}
