/**
 * What the directory knows of tokens: the keys that sign them, the issuers whose tokens are taken in exchange, and operators'
 * tokens that were revoked. Part of directory.ts.
 */
import { and, asc, count, eq, gt, inArray, isNotNull, isNull, lt, or, sql } from "drizzle-orm"
import type { DrizzleD1Database } from "drizzle-orm/d1"
import { z } from "zod"
import { AppError } from "../schema/errors.ts"
import type { TokenId } from "../schema/ids.ts"
import { TenantId, TrustId } from "../schema/ids.ts"
import { revokedTokens, signingKeys, trusts } from "../schema/tables/directory.ts"
import { AuthorizationDetails, ClaimCondition, TENANT_SCOPES } from "../schema/tokens.ts"
import type { TenantScope } from "../schema/tokens.ts"

export interface SigningKeyRow {
  readonly kid: string
  readonly x: string
  /** The private half; null: it does not sign any more, or is SIGNING_KEY itself. */
  readonly sealed: string | null
  readonly signsFromMs: number | null
  readonly lastExpiryMs: number
}

export interface TrustRow {
  readonly id: TrustId
  readonly tenantId: TenantId
  readonly name: string
  readonly issuer: string
  readonly audience: string
  readonly conditions: readonly ClaimCondition[]
  readonly scopes: readonly TenantScope[]
  readonly details: AuthorizationDetails | null
  readonly maxLifetimeSeconds: number
  readonly createdAtMs: number
}

const theirs = (tenant: TenantId, id: string) => and(eq(trusts.tenant_id, tenant), eq(trusts.id, id))

export function tokenRecords(db: DrizzleD1Database) {
  return {
    /** Keys that sign, will sign, or signed a token that may still be valid. */
    async signingKeys(nowMs: number): Promise<SigningKeyRow[]> {
      const useful = or(gt(signingKeys.last_expiry_ms, nowMs), isNotNull(signingKeys.sealed))
      const rows = await db
        .select()
        .from(signingKeys)
        .where(and(useful, isNull(signingKeys.distrusted_at_ms)))
      return rows.map(({ kid, x, sealed, signs_from_ms, last_expiry_ms }) => {
        return { kid, x, sealed, signsFromMs: signs_from_ms, lastExpiryMs: last_expiry_ms }
      })
    },
    /** Its tokens can be verified until then. One that was distrusted stays so. */
    async keepSigningKey(key: { kid: string; x: string; untilMs: number }): Promise<void> {
      await db
        .insert(signingKeys)
        .values({ kid: key.kid, x: key.x, last_expiry_ms: key.untilMs })
        .onConflictDoUpdate({
          target: signingKeys.kid,
          set: { last_expiry_ms: sql`max(${signingKeys.last_expiry_ms}, excluded.last_expiry_ms)` },
        })
    },
    /** Adds a key, and forgets the private halves of those that were followed by `signing` before. */
    async addSigningKey(key: { kid: string; x: string; sealed: string; signsFromMs: number }, signing: number): Promise<void> {
      const { kid, x, sealed, signsFromMs } = key
      await db.batch([
        db.update(signingKeys).set({ sealed: null }).where(lt(signingKeys.signs_from_ms, signing)),
        db.insert(signingKeys).values({ kid, x, sealed, signs_from_ms: signsFromMs, last_expiry_ms: signsFromMs }),
      ])
    },
    /** False when there is no such key. */
    async distrustSigningKey(kid: string, nowMs: number): Promise<boolean> {
      const change = { distrusted_at_ms: nowMs, sealed: null }
      const rows = await db.update(signingKeys).set(change).where(eq(signingKeys.kid, kid)).returning({ kid: signingKeys.kid })
      return rows.length > 0
    },

    /** The same id again is no error. */
    async addTrust(row: TrustRow): Promise<void> {
      await db
        .insert(trusts)
        .values({
          id: row.id,
          tenant_id: row.tenantId,
          name: row.name,
          issuer: row.issuer,
          audience: row.audience,
          conditions: JSON.stringify(row.conditions),
          scopes: JSON.stringify(row.scopes),
          details: JSON.stringify(row.details),
          max_lifetime_seconds: row.maxLifetimeSeconds,
          created_at_ms: row.createdAtMs,
        })
        .onConflictDoNothing()
    },
    /** Whoever's it is: an exchange names the trust alone. */
    async trust(id: string): Promise<TrustRow | undefined> {
      const row = await db.select().from(trusts).where(eq(trusts.id, id)).get()
      return row && trustOf(row)
    },
    /** @throws AppError `not_found`. */
    async trustOf(tenant: TenantId, id: string): Promise<TrustRow> {
      const row = await db.select().from(trusts).where(theirs(tenant, id)).get()
      if (!row) throw new AppError("not_found", `You have no trust ${id}.`)
      return trustOf(row)
    },
    async trusts(tenant: TenantId, after: string, limit: number): Promise<TrustRow[]> {
      const wanted = and(eq(trusts.tenant_id, tenant), gt(trusts.id, after))
      const rows = await db.select().from(trusts).where(wanted).orderBy(asc(trusts.id)).limit(limit)
      return rows.map(trustOf)
    },
    async trustCount(tenant: TenantId): Promise<number> {
      const row = await db.select({ n: count() }).from(trusts).where(eq(trusts.tenant_id, tenant)).get()
      return row?.n ?? 0
    },
    async removeTrust(tenant: TenantId, id: string): Promise<void> {
      await db.delete(trusts).where(theirs(tenant, id))
    },

    /** An operator's token, which is refused from now on, as is what was made from it. */
    async revokeToken(id: TokenId, untilMs: number, nowMs: number): Promise<void> {
      await db.batch([
        db.delete(revokedTokens).where(lt(revokedTokens.until_ms, nowMs)),
        db.insert(revokedTokens).values({ id, until_ms: untilMs }).onConflictDoNothing(),
      ])
    },
    async anyRevoked(ids: readonly string[]): Promise<boolean> {
      return (await db.select().from(revokedTokens).where(inArray(revokedTokens.id, [...ids])).limit(1)).length > 0 // prettier-ignore
    },
  }
}

const Conditions = z.array(ClaimCondition)
const Scopes = z.array(z.enum(TENANT_SCOPES))

const trustOf = (row: typeof trusts.$inferSelect): TrustRow => ({
  id: TrustId.parse(row.id),
  tenantId: TenantId.parse(row.tenant_id),
  name: row.name,
  issuer: row.issuer,
  audience: row.audience,
  conditions: Conditions.parse(JSON.parse(row.conditions)),
  scopes: Scopes.parse(JSON.parse(row.scopes)),
  details: AuthorizationDetails.nullable().parse(JSON.parse(row.details)),
  maxLifetimeSeconds: row.max_lifetime_seconds,
  createdAtMs: row.created_at_ms,
})
