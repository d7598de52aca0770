/** Gives out tokens: on the tenant's record first, so that each can be seen and revoked from its first use on, then signed. */
import type { Caller } from "../durable/shared/rpc.ts"
import { AppError } from "../schema/errors.ts"
import type { TenantId, TokenId, TrustId } from "../schema/ids.ts"
import type { MintedToken, TenantScope } from "../schema/tokens.ts"
import { MAX_CHAIN, TENANT_SCOPES } from "../schema/tokens.ts"
import type { AppContext, Principal } from "./env.ts"
import type { Refused, Worth } from "./narrowing.ts"
import type { Proof } from "./dpop.ts"
import type { Act } from "./tokens.ts"

export interface Issue {
  readonly id: TokenId
  readonly tenant: TenantId
  readonly subject: string
  /** What the tenant's list calls it. */
  readonly name: string
  readonly worth: Worth
  readonly chain: readonly (TokenId | TrustId)[]
  readonly act?: Act | null
  /** The key that it is to be bound to; null: none. */
  readonly jkt: string | null
  /** Shown for a token that nobody's token of ours was shown for. */
  readonly proof?: Proof | undefined
}

/** `caller` null: an operator, or somebody with a token of another issuer. @throws AppError `quota_exceeded`, `unauthenticated`. */
export async function issue(
  c: AppContext,
  caller: Caller | null,
  { id, tenant, subject, name, worth, chain, act, jkt, proof }: Issue,
): Promise<MintedToken> {
  const { clock, keyring, peers } = c.var.services
  const { scopes, details, expiresAtMs } = worth
  const record = { id, name, scopes, details, chain, expires_at_ms: expiresAtMs }
  const shown = proof && { id: proof.id, until_ms: proof.untilMs, request_id: c.var.requestId }
  await peers.tenant(tenant).addToken(caller, record, shown)
  const claims = { subject, tenant, token: id, chain, scopes, details, act, jkt, issuedAtMs: clock.now(), expiresAtMs }
  return {
    id,
    access_token: await keyring.sign(claims),
    token_type: jkt === null ? "Bearer" : "DPoP",
    expires_at: new Date(expiresAtMs).toISOString(),
    scope: scopes.join(" "),
    authorization_details: details,
  }
}

export const worthOf = ({ scopes, details, expiresAtMs }: Principal): Worth => ({
  scopes: TENANT_SCOPES.filter((scope): scope is TenantScope => scopes.has(scope)),
  details,
  expiresAtMs,
})

/** What a token made from this one carries. @throws AppError `forbidden` when it is too far from the first. */
export function chainFrom({ token, chain }: Principal): (TokenId | TrustId)[] {
  if (chain.length >= MAX_CHAIN) throw new AppError("forbidden", `A token is made from a token ${MAX_CHAIN} times at most.`)
  return [token, ...chain]
}

/** A refusal as the fields of a request body. */
export function refusalOf({ field, index, beyond, message }: Refused): AppError {
  const pointer = `/${field}${index === null ? "" : `/${index}`}`
  return new AppError(beyond ? "forbidden" : "invalid_field", `${pointer} ${message}.`, { errors: [{ pointer, message }] })
}
