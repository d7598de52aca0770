/**
 * Access tokens (RFC 9068) and node assertions: how they are signed and what makes one valid. Keys come from the caller; the
 * algorithm and the type are pinned, so nothing in a token's own header can widen what is accepted.
 */
import type { JWTPayload } from "jose"
import { errors, importJWK, jwtVerify, SignJWT } from "jose"
import { z } from "zod"
import { NodeId, TenantId, TokenId, TrustId } from "../schema/ids.ts"
import { AppError } from "../schema/errors.ts"
import { NODE_ASSERTION_SECONDS, NODE_ASSERTION_TYP } from "../schema/node.ts"
import { AuthorizationDetails, MAX_CHAIN, Thumbprint } from "../schema/tokens.ts"

export const ACCESS_TOKEN_TYP = "at+jwt"
const ALGORITHM = "EdDSA"
/** Clocks of issuer and verifier may differ by this much. */
export const CLOCK_TOLERANCE_SECONDS = 5
/** With the most authorization details that there may be; a longer one is not ours, and is not worth decoding. */
const MAX_TOKEN_BYTES = 8192

/** The private key as `SIGNING_KEY` holds it: an Ed25519 JWK (RFC 8037) with its `kid`. */
const PrivateJwk = z.object({
  kty: z.literal("OKP"),
  crv: z.literal("Ed25519"),
  kid: z.string().min(1).max(128),
  x: z.base64url().length(43),
  d: z.base64url().length(43),
})
export type PrivateJwk = z.infer<typeof PrivateJwk>

/** @throws Error when the text is not such a key: the platform is set up wrongly. It never quotes the text. */
export function parseSigningKey(text: string): PrivateJwk {
  try {
    return PrivateJwk.parse(JSON.parse(text))
  } catch {
    throw new Error("SIGNING_KEY is not a private Ed25519 JWK with a kid")
  }
}

/** The public half, from its `x`, ready to verify with. */
export async function importPublicKey(x: string): Promise<CryptoKey> {
  const key = await importJWK({ kty: "OKP", crv: "Ed25519", x }, ALGORITHM)
  if (key instanceof Uint8Array) throw new Error("an Ed25519 key cannot be symmetric")
  return key
}

/** Who acts for the subject, the latest first (RFC 8693, section 4.1). */
export interface Act {
  readonly sub: string
  readonly act?: Act | undefined
}
const Act: z.ZodType<Act> = z.object({
  sub: z.string(),
  get act() {
    return Act.optional()
  },
})

export interface AccessClaims {
  readonly issuer: string
  readonly subject: string
  /** Absent on an operator's token. */
  readonly tenant?: TenantId
  readonly token: TokenId
  /** What it was made from, the nearest first. */
  readonly chain?: readonly (TokenId | TrustId)[]
  readonly scopes: readonly string[]
  readonly details?: AuthorizationDetails | null
  readonly act?: Act | null
  /** The key that it is bound to (RFC 9449). */
  readonly jkt?: string | null
  readonly issuedAtMs: number
  readonly expiresAtMs: number
}

export async function signAccessToken(key: PrivateJwk, claims: AccessClaims): Promise<string> {
  const { kid, ...jwk } = key
  const { subject, tenant, chain = [], scopes, details, act, jkt } = claims
  const ours = {
    client_id: subject,
    scope: scopes.join(" "),
    ...(tenant && { ten: tenant }),
    ...(chain.length > 0 && { chain }),
    ...(details && { authorization_details: details }),
    ...(act && { act }),
    ...(jkt && { cnf: { jkt } }),
  }
  return new SignJWT(ours)
    .setProtectedHeader({ alg: ALGORITHM, typ: ACCESS_TOKEN_TYP, kid })
    .setIssuer(claims.issuer)
    .setAudience(claims.issuer)
    .setSubject(subject)
    .setJti(claims.token)
    .setIssuedAt(Math.floor(claims.issuedAtMs / 1000))
    .setExpirationTime(Math.floor(claims.expiresAtMs / 1000))
    .sign(await importJWK(jwk, ALGORITHM))
}

/** A JWT of a kind of its own, which is no access token. */
export async function signStatement(key: PrivateJwk, typ: string, claims: JWTPayload): Promise<string> {
  const { kid, ...jwk } = key
  return new SignJWT(claims).setProtectedHeader({ alg: ALGORITHM, typ, kid }).sign(await importJWK(jwk, ALGORITHM))
}

/** Finds the public key of this id, or undefined. */
export type KeyLookup = (kid: string) => Promise<CryptoKey | undefined>

const OurClaims = z.object({
  sub: z.string().min(1).max(512),
  ten: TenantId.optional(),
  jti: TokenId,
  chain: z
    .array(z.union([TokenId, TrustId]))
    .max(MAX_CHAIN)
    .default([]),
  scope: z.string(),
  authorization_details: AuthorizationDetails.optional(),
  act: Act.optional(),
  cnf: z.object({ jkt: Thumbprint }).optional(),
  exp: z.number(),
})

export interface VerifiedAccess {
  readonly subject: string
  readonly tenant: TenantId | null
  readonly token: TokenId
  readonly chain: readonly (TokenId | TrustId)[]
  readonly scopes: ReadonlySet<string>
  readonly details: AuthorizationDetails | null
  readonly act: Act | null
  /** The thumbprint of the key that it is bound to; null: whoever bears it may use it. */
  readonly jkt: string | null
  readonly expiresAtMs: number
}

/** @throws AppError `token_expired` or `unauthenticated`, whose detail says what is wrong with the token. */
export async function verifyAccessToken(token: string, issuer: string, keys: KeyLookup, nowMs: number): Promise<VerifiedAccess> {
  const claims = await verify(token, keys, nowMs, { typ: ACCESS_TOKEN_TYP, issuer, audience: issuer })
  const ours = OurClaims.safeParse(claims)
  if (!ours.success)
    throw new AppError("unauthenticated", `The token's ${ours.error.issues[0]?.path.join(".")} claim is not valid.`)
  const { sub, ten, jti, chain, scope, authorization_details, act = null, cnf, exp } = ours.data
  const scopes = new Set(scope.split(" ").filter((word) => word !== ""))
  const details = authorization_details ?? null
  return {
    subject: sub,
    tenant: ten ?? null,
    token: jti,
    chain,
    scopes,
    details,
    act,
    jkt: cnf?.jkt ?? null,
    expiresAtMs: exp * 1000,
  }
}

const AssertionClaims = z.object({ iss: NodeId, sub: NodeId, jti: z.string().min(1).max(128), exp: z.number() })

export interface VerifiedAssertion {
  readonly node: NodeId
  /** The assertion's own name, chosen by the node. */
  readonly jti: string
  /** From then on it is not accepted any more. */
  readonly expiresAtMs: number
}

/** Which node this assertion comes from. @throws AppError `token_expired` or `unauthenticated`. */
export async function verifyNodeAssertion(
  token: string,
  audience: string,
  keys: KeyLookup,
  nowMs: number,
): Promise<VerifiedAssertion> {
  let kid = ""
  const remember: KeyLookup = (id) => {
    kid = id
    return keys(id)
  }
  const claims = await verify(token, remember, nowMs, { typ: NODE_ASSERTION_TYP, audience })
  const ours = AssertionClaims.safeParse(claims)
  if (!ours.success)
    throw new AppError("unauthenticated", `The assertion's ${ours.error.issues[0]?.path.join(".")} claim is not valid.`)
  const { iss, sub, jti, exp } = ours.data
  if (iss !== kid || sub !== kid) throw new AppError("unauthenticated", "The assertion's iss, sub and kid are not one node.")
  if (exp * 1000 > nowMs + (NODE_ASSERTION_SECONDS + CLOCK_TOLERANCE_SECONDS) * 1000)
    throw new AppError("unauthenticated", `The assertion expires more than ${NODE_ASSERTION_SECONDS} seconds from now.`)
  return { node: iss, jti, expiresAtMs: (exp + CLOCK_TOLERANCE_SECONDS) * 1000 }
}

async function verify(
  token: string,
  keys: KeyLookup,
  nowMs: number,
  expected: { typ: string; audience: string; issuer?: string },
): Promise<JWTPayload> {
  if (token.length > MAX_TOKEN_BYTES) throw new AppError("unauthenticated", "The token is too long to be one of this platform.")
  try {
    const { payload } = await jwtVerify(
      token,
      async ({ kid }) => {
        const key = typeof kid === "string" && kid.length <= 128 ? await keys(kid) : undefined
        if (!key) throw new AppError("unauthenticated", "The token is signed with a key that is not known here.")
        return key
      },
      {
        ...expected,
        algorithms: [ALGORITHM],
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        currentDate: new Date(nowMs),
        requiredClaims: ["iss", "aud", "sub", "jti", "iat", "exp"],
      },
    )
    return payload
  } catch (error) {
    throw refusalOf(error)
  }
}

function refusalOf(error: unknown): unknown {
  if (error instanceof errors.JWTExpired)
    return new AppError("token_expired", "The token has expired; get a new one.", { cause: error })
  if (error instanceof errors.JWTClaimValidationFailed) {
    const why = error.reason === "missing" ? "is missing" : "is not accepted"
    return new AppError("unauthenticated", `The token's ${error.claim} ${why}.`, { cause: error })
  }
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return new AppError("unauthenticated", "The token's signature does not verify.", { cause: error })
  if (error instanceof errors.JOSEError)
    return new AppError("unauthenticated", "The token is not a signed JWT that this platform accepts.", { cause: error })
  return error
}
