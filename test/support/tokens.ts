/** Access tokens for tests: valid by default, and wrong in one chosen way. */
import { importJWK, SignJWT } from "jose"
import { OPERATOR_SCOPE, TENANT_SCOPES } from "../../schema/api.ts"
import type { TenantId } from "../../schema/ids.ts"
import { anId } from "./factories.ts"
import { TEST_ISSUER, TEST_SIGNING_KEY } from "./signing-key.ts"

export interface TokenOptions {
  readonly tenant?: TenantId
  readonly scopes?: readonly string[]
  readonly subject?: string
  readonly audience?: string
  readonly issuer?: string
  readonly typ?: string
  readonly kid?: string
  readonly key?: { kty: string; crv: string; x: string; d: string }
  /** Seconds from now. */
  readonly expiresIn?: number
  readonly notBeforeIn?: number
  readonly claims?: Record<string, unknown>
}

export async function aToken(options: TokenOptions = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const { tenant, expiresIn = 600, notBeforeIn } = options
  const scopes = options.scopes ?? (tenant ? TENANT_SCOPES : [OPERATOR_SCOPE])
  const { kid, ...own } = TEST_SIGNING_KEY
  const token = new SignJWT({ scope: scopes.join(" "), ...(tenant && { ten: tenant }), ...options.claims })
    .setProtectedHeader({ alg: "EdDSA", typ: options.typ ?? "at+jwt", kid: options.kid ?? kid })
    .setIssuer(options.issuer ?? TEST_ISSUER)
    .setAudience(options.audience ?? TEST_ISSUER)
    .setSubject(options.subject ?? "tester")
    .setJti(anId("tok"))
    .setIssuedAt(now)
    .setExpirationTime(now + expiresIn)
  if (notBeforeIn !== undefined) token.setNotBefore(now + notBeforeIn)
  return token.sign(await importJWK(options.key ?? own, "EdDSA"))
}

/** A token of no signature at all, as a caller would make who hopes that `none` is accepted. */
export async function unsigned(token: string): Promise<string> {
  const [, claims] = token.split(".")
  const header = btoa(JSON.stringify({ alg: "none", typ: "at+jwt", kid: TEST_SIGNING_KEY.kid })).replaceAll("=", "")
  return `${header}.${claims}.`
}
