/**
 * Tokens of other issuers: found to be theirs by the keys that OpenID Connect Discovery 1.0 leads to. The address comes from a
 * tenant, so everything about the way there is bounded: where it may lead, how long it may take, how much may come back. Keys are
 * held in the isolate; nothing in a token says where its key is to be found.
 */
import type { JSONWebKeySet, JWTPayload } from "jose"
import { createLocalJWKSet, errors, jwtVerify } from "jose"
import { z } from "zod"
import type { Clock } from "../durable/shared/ports.ts"
import { boundedText, OAuthError } from "./oauth.ts"
import { CLOCK_TOLERANCE_SECONDS } from "./tokens.ts"

/** The platform's way out to addresses that tenants chose. */
export interface Outbound {
  /** Why this URL must not be called; undefined when it may be. */
  refused(url: string): string | undefined
  fetch(url: string, init: RequestInit): Promise<Response>
}

/** Asymmetric ones alone: with a symmetric one, whoever can verify could sign (RFC 8725, section 3.2). */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
/** Those of large identity providers are about 2 KiB. */
const MAX_SUBJECT_TOKEN_BYTES = 16 * 1024
/** Issuers change keys over days and announce them ahead. */
const MAX_AGE_MS = 10 * 60_000
/** An unknown key makes the issuer be asked again, but no more often: anyone can invent key ids. */
const MIN_AGE_MS = 30_000
const TIMEOUT_MS = 5_000
const MAX_DOCUMENT_BYTES = 256 * 1024
const MAX_ISSUERS = 200

const Discovery = z.object({ issuer: z.string(), jwks_uri: z.url() })
const Jwks = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(100) })

interface Known {
  readonly keys: ReturnType<typeof createLocalJWKSet>
  readonly readAtMs: number
}

export interface Issuers {
  /** The claims of a token that this issuer signed for this audience and that is valid now. @throws OAuthError. */
  verify(token: string, issuer: string, audience: string): Promise<JWTPayload>
}

export function openIssuers(outbound: Outbound, clock: Clock): Issuers {
  const known = new Map<string, Known>()

  async function refresh(issuer: string): Promise<Known> {
    const discovery = Discovery.parse(await readJson(outbound, `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`))
    if (discovery.issuer !== issuer) throw new Error("its discovery document names another issuer")
    const jwks = Jwks.parse(await readJson(outbound, discovery.jwks_uri))
    const fresh = { keys: createLocalJWKSet(jwks as JSONWebKeySet), readAtMs: clock.now() }
    const oldest = known.size >= MAX_ISSUERS ? known.keys().next().value : undefined
    if (oldest !== undefined) known.delete(oldest)
    known.delete(issuer)
    known.set(issuer, fresh)
    return fresh
  }

  /** Never shared between requests: what one request awaits must not hang on another's I/O, which may be cancelled. */
  async function keysOf(issuer: string, notOlderThanMs: number): Promise<Known> {
    const held = known.get(issuer)
    if (held && clock.now() - held.readAtMs < notOlderThanMs) return held
    try {
      return await refresh(issuer)
    } catch (error) {
      const why = error instanceof z.ZodError ? "its answer is not what OpenID Connect says" : (error as Error).message
      throw new OAuthError("temporarily_unavailable", `The keys of ${issuer} cannot be read: ${why}.`, { cause: error })
    }
  }

  return {
    async verify(token, issuer, audience) {
      if (token.length > MAX_SUBJECT_TOKEN_BYTES) throw new OAuthError("invalid_request", "The subject token is too long.")
      const attempt = async (notOlderThanMs: number) =>
        jwtVerify(token, (await keysOf(issuer, notOlderThanMs)).keys, {
          issuer,
          audience,
          algorithms: ALGORITHMS,
          clockTolerance: CLOCK_TOLERANCE_SECONDS,
          currentDate: new Date(clock.now()),
          requiredClaims: ["sub", "iat", "exp"],
        })
      try {
        const { payload, protectedHeader } = await attempt(MAX_AGE_MS).catch((error: unknown) => {
          if (error instanceof errors.JWKSNoMatchingKey) return attempt(MIN_AGE_MS)
          throw error
        })
        // An issuer signs other things than tokens about somebody: logout tokens, events, proofs (RFC 8725, section 3.11).
        const { typ } = protectedHeader
        if (typ !== undefined && !/^(application\/)?(at\+)?jwt$/i.test(typ))
          throw new OAuthError("invalid_request", `The subject token is of the type ${typ}.`)
        return payload
      } catch (error) {
        throw error instanceof errors.JOSEError ? refusalOf(error) : error
      }
    },
  }
}

function refusalOf(error: InstanceType<typeof errors.JOSEError>): OAuthError {
  const said = (what: string) => new OAuthError("invalid_request", `The subject token ${what}.`, { cause: error })
  if (error instanceof errors.JWTExpired) return said("has expired")
  if (error instanceof errors.JWTClaimValidationFailed) return said(`has a wrong ${error.claim}, or none`)
  if (error instanceof errors.JWKSNoMatchingKey) return said("is signed with a key that its issuer does not have")
  if (error instanceof errors.JWSSignatureVerificationFailed) return said("has a signature that does not verify")
  return said("is not a signed JWT that can be accepted")
}

async function readJson(outbound: Outbound, url: string): Promise<unknown> {
  const refusal = outbound.refused(url)
  if (refusal !== undefined) throw new Error(`${url} ${refusal}`)
  const init = { redirect: "manual" as const, signal: AbortSignal.timeout(TIMEOUT_MS), headers: { accept: "application/json" } }
  const response = await outbound.fetch(url, init).catch((cause: unknown) => {
    throw new Error(`${url} does not answer`, { cause })
  })
  if (response.status !== 200) {
    await response.body?.cancel()
    throw new Error(`${url} answers ${response.status}`)
  }
  const text = await boundedText(response, MAX_DOCUMENT_BYTES)
  if (text === undefined) throw new Error(`${url} answers with more than ${MAX_DOCUMENT_BYTES} bytes`)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Error(`${url} does not answer with JSON`, { cause })
  }
}
