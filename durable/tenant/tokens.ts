/**
 * The tenant's tokens: which there are, which were revoked, and whether a caller may still come in. Tokens are verified at the
 * edge, by their signature alone; what a signature cannot tell is known here, where every call comes by anyway.
 */
import type { Page } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import type { TokenId, TrustId } from "../../schema/ids.ts"
import type { TenantScope, Token } from "../../schema/tokens.ts"
import type { Clock } from "../shared/ports.ts"
import type { Caller, IssuedToken, ShownProof } from "../shared/rpc.ts"
import type { TokenRow, TokenStore } from "./token-store.ts"

/** How exact `last_used_at` is: a write for every call would cost more than most calls do. */
const USE_GRAIN_MS = 3600_000
/** Tokens remembered as used; beyond it all are looked up again. */
const MAX_REMEMBERED = 10_000
/** More than a busy pipeline has; it bounds what a loop that mints without end can store. */
const MAX_LIVE_TOKENS = 10_000
/** Expired tokens can still be seen this long, to find out why something stopped working. */
const EXPIRED_RETENTION_MS = 7 * 86_400_000
const SWEEP = 1_000

const ADMIN: TenantScope = "tenant:admin"

export class Tokens {
  readonly #store: TokenStore
  readonly #clock: Clock
  /** All of them: a revocation is looked up for every call. */
  #revoked = new Set<TokenId | TrustId>()
  /** When each was last noted as used. */
  readonly #used = new Map<TokenId, number>()

  constructor(store: TokenStore, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** Once the tables are there. */
  load(): void {
    this.#revoked = new Set(this.#store.revoked(this.#clock.now()))
  }

  /** @throws AppError `unauthenticated` when the caller's token, or one that it comes from, was revoked. */
  enter(caller: Caller): void {
    if (!this.stands(caller)) throw revoked()
    if (caller.proof) this.show(caller.proof)
    this.#note(caller.token_id)
  }

  /** The same for who came in before: a stream must not outlive its reader's token. */
  stay(caller: Caller): void {
    if (!this.stands(caller)) throw revoked()
    if (caller.expires_at_ms <= this.#clock.now()) throw new AppError("token_expired", "The token has expired; get a new one.")
  }

  /** @throws AppError `unauthenticated` when another request has shown it before. */
  show({ id, request_id, until_ms }: ShownProof): void {
    if (!this.#store.showProof(id, request_id, until_ms, this.#clock.now()))
      throw new AppError("unauthenticated", "The DPoP proof was used before: make one for each request.")
  }

  stands({ token_id, token_chain }: Caller): boolean {
    return !this.#anyRevoked([token_id, ...token_chain])
  }

  add({ id, name, scopes, details, chain, expires_at_ms }: IssuedToken): void {
    // Of a trust that is being ended at this moment.
    if (this.#anyRevoked(chain)) throw revoked()
    const now = this.#clock.now()
    this.#store.collect(now - EXPIRED_RETENTION_MS, now, SWEEP)
    if (this.#store.byId(id) === undefined && this.#store.count(now) >= MAX_LIVE_TOKENS)
      throw new AppError("quota_exceeded", `There are ${MAX_LIVE_TOKENS} tokens that have not expired; that is the most.`)
    this.#store.put({
      id,
      name,
      scopes: [...scopes],
      details,
      chain: [...chain],
      created_at_ms: now,
      expires_at_ms,
      last_used_at_ms: null,
      revoked_at_ms: null,
    })
  }

  list(caller: Caller, cursor: string | null, limit: number): Page<Token> {
    const rows = this.#store.page(isAdmin(caller) ? null : caller.token_id, cursor ?? "", limit + 1)
    const items = rows.slice(0, limit).map((row) => this.#view(row))
    return { items, next_cursor: rows.length > limit ? (items.at(-1)?.id ?? null) : null }
  }

  get(caller: Caller, id: TokenId): Token {
    return this.#view(this.#row(caller, id))
  }

  revoke(caller: Caller, id: TokenId): void {
    this.#revoke(id, this.#row(caller, id).expires_at_ms)
  }

  /** The caller's own token, whether it is on record or not; revoked ones may say so again. */
  revokeSelf({ token_id, expires_at_ms }: Caller): void {
    this.#revoke(token_id, expires_at_ms)
  }

  /** All that a trust has given, and gives until then. */
  revokeTrust(id: TrustId, untilMs: number): void {
    this.#revoke(id, untilMs)
  }

  #anyRevoked(ids: readonly (TokenId | TrustId)[]): boolean {
    return this.#revoked.size > 0 && ids.some((id) => this.#revoked.has(id))
  }

  #revoke(id: TokenId | TrustId, untilMs: number): void {
    this.#store.revoke(id, untilMs, this.#clock.now())
    this.#revoked.add(id)
  }

  /** A token sees itself and what was made from it; only an administrator's sees all. */
  #row(caller: Caller, id: TokenId): TokenRow {
    const row = this.#store.byId(id)
    const theirs = row && (isAdmin(caller) || id === caller.token_id || row.chain.includes(caller.token_id))
    if (!theirs) throw new AppError("not_found", `You have no token ${id}.`)
    return row
  }

  #view(row: TokenRow): Token {
    const gone = row.revoked_at_ms !== null || this.#anyRevoked([row.id, ...row.chain])
    const expired = row.expires_at_ms <= this.#clock.now()
    return {
      id: row.id,
      name: row.name,
      status: gone ? "revoked" : expired ? "expired" : "active",
      scopes: row.scopes,
      authorization_details: row.details,
      parent: row.chain[0] ?? null,
      created_at: iso(row.created_at_ms),
      expires_at: iso(row.expires_at_ms),
      last_used_at: row.last_used_at_ms === null ? null : iso(row.last_used_at_ms),
      revoked_at: row.revoked_at_ms === null ? null : iso(row.revoked_at_ms),
    }
  }

  #note(id: TokenId): void {
    const now = this.#clock.now()
    const known = this.#used.get(id)
    if (known !== undefined && now - known < USE_GRAIN_MS) return
    if (this.#used.size >= MAX_REMEMBERED) this.#used.clear()
    const row = known === undefined ? this.#store.byId(id) : undefined
    const last = row?.last_used_at_ms ?? null
    const stale = last === null || now - last >= USE_GRAIN_MS
    this.#used.set(id, stale ? now : last)
    // A token that is not on record (signed with the platform's key, outside of it) has no row to note it in.
    if (stale) this.#store.used(id, now)
  }
}

const revoked = () => new AppError("unauthenticated", "The token was revoked, or one that it was made from.")
const isAdmin = ({ scopes }: Caller) => scopes.includes(ADMIN)
const iso = (ms: number) => new Date(ms).toISOString()
