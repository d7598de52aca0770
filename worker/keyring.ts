/**
 * The keys that tokens are signed and verified with, held in the isolate. SIGNING_KEY is the first of them and the one that is
 * always there; operators put others in its place, which the directory keeps, their private halves sealed under SECRETS_KEY. A
 * key verifies as long as a token that it signed may be valid. Verified tokens are remembered as well, because a client sends
 * the same one with every call.
 */
import type { JWTPayload } from "jose"
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from "jose"
import type { Clock, Env } from "../durable/shared/ports.ts"
import type { Sealer } from "../durable/shared/sealing.ts"
import type { Directory } from "./directory.ts"
import type { AccessClaims, PrivateJwk, VerifiedAccess } from "./tokens.ts"
import { importPublicKey, parseSigningKey, signAccessToken, signStatement, verifyAccessToken } from "./tokens.ts"

/** A key that was taken out of the directory is believed this much longer. */
export const MAX_AGE_MS = 60_000
/** An unknown `kid` makes the directory be read again, but not more often than this: anyone can invent key ids. */
const MIN_AGE_MS = 5_000
/** Tokens remembered; at about 1 KiB each. */
const MAX_VERIFIED = 1_000
/** How long others may hold the key set that they read; a key is published this long before it signs, and our own age longer. */
export const JWKS_MAX_AGE_SECONDS = 300
const LEAD_MS = JWKS_MAX_AGE_SECONDS * 1000 + MAX_AGE_MS
/** As OpenID Connect's id tokens have it: those who verify them know no other. Our own API takes only `at+jwt`. */
const IDENTITY_TYP = "JWT"
/** The directory is told to the hour until when a key is needed, so that not every token costs it a write. */
const GRAIN_MS = 3600_000

export interface KeyView {
  readonly kid: string
  readonly x: string
  readonly state: "next" | "signing" | "verifying"
  /** Null for SIGNING_KEY, which signs when no other does. */
  readonly signsFromMs: number | null
}

export interface Keyring {
  /** Whose token this is. @throws AppError `unauthenticated` or `token_expired`. */
  verify(token: string): Promise<VerifiedAccess>
  /** Signs with the key whose turn it is, and makes sure that the token outlives a rotation of it. */
  sign(claims: Omit<AccessClaims, "issuer">): Promise<string>
  /** A container's identity; no access token, and of another type. */
  signIdentity(claims: JWTPayload, expiresAtMs: number): Promise<string>
  /** Signs what must be verifiable for longer than any token, and so with SIGNING_KEY. */
  signStatement(typ: string, claims: JWTPayload): Promise<string>
  /** Public keys, as `/.well-known/jwks.json` shows them, and what each is for. */
  keys(): Promise<KeyView[]>
  /** Makes the next key. It is published at once and signs once everybody can have heard of it. */
  rotate(): Promise<KeyView>
  /** Refuses what this key signed: at once here, within MAX_AGE_MS everywhere. Answers whether there is such a key. */
  distrust(kid: string): Promise<boolean>
  /** SIGNING_KEY. @throws Error when the platform is set up without one. */
  signingKey(): PrivateJwk
}

interface Known {
  readonly keys: ReadonlyMap<string, { readonly x: string; readonly key: CryptoKey }>
  /** Those that sign from a time on, the latest first. */
  readonly signers: readonly { readonly jwk: PrivateJwk; readonly fromMs: number }[]
  readonly readAtMs: number
}

export function openKeyring(
  env: Pick<Env, "ISSUER" | "SIGNING_KEY">,
  directory: Directory,
  sealer: Sealer,
  clock: Clock,
): Keyring {
  let own: PrivateJwk | undefined
  let known: Known | undefined
  const verified = new Map<string, { readonly access: VerifiedAccess; readonly untilMs: number }>()
  const kept = new Map<string, number>()

  const signingKey = () => (own ??= parseSigningKey(env.SIGNING_KEY))

  /** Never shared between requests: what one request awaits must not hang on another's I/O, which may be cancelled. */
  async function refresh(): Promise<Known> {
    const { kid, x } = signingKey()
    const nowMs = clock.now()
    const rows = await directory.signingKeys(nowMs)
    const all = [...rows, { kid, x }]
    const keys = await Promise.all(all.map(async (row) => [row.kid, { x: row.x, key: await importPublicKey(row.x) }] as const))
    const signers = await Promise.all(rows.map(async (row) => unsealed(row.kid, row.sealed, row.signsFromMs)))
    const usable = signers.filter((signer) => signer !== undefined).toSorted((a, b) => b.fromMs - a.fromMs)
    known = { keys: new Map(keys), signers: usable, readAtMs: nowMs }
    verified.clear()
    return known
  }

  async function unsealed(kid: string, sealed: string | null, fromMs: number | null) {
    if (sealed === null || fromMs === null) return undefined
    const text = await sealer.unseal(kid, sealed)
    // Sealed under another SECRETS_KEY: its tokens are verified still, and SIGNING_KEY signs until the next rotation.
    return text === undefined ? undefined : { jwk: parseSigningKey(text), fromMs }
  }

  async function current(): Promise<Known> {
    return known && clock.now() - known.readAtMs < MAX_AGE_MS ? known : refresh()
  }

  const signerOf = ({ signers }: Known) => signers.find(({ fromMs }) => fromMs <= clock.now())

  /** The key whose turn it is, which can be verified until then. */
  async function signerUntil(expiresAtMs: number): Promise<PrivateJwk> {
    const key = signerOf(await current())?.jwk ?? signingKey()
    if (expiresAtMs > (kept.get(key.kid) ?? 0)) {
      const untilMs = Math.ceil(expiresAtMs / GRAIN_MS) * GRAIN_MS
      await directory.keepSigningKey({ kid: key.kid, x: key.x, untilMs })
      kept.set(key.kid, untilMs)
    }
    return key
  }

  async function lookup(kid: string): Promise<CryptoKey | undefined> {
    const now = await current()
    if (now.keys.has(kid) || clock.now() - now.readAtMs < MIN_AGE_MS) return now.keys.get(kid)?.key
    return (await refresh()).keys.get(kid)?.key
  }

  function remember(token: string, access: VerifiedAccess): void {
    const oldest = verified.size >= MAX_VERIFIED ? verified.keys().next().value : undefined
    if (oldest !== undefined) verified.delete(oldest)
    verified.set(token, { access, untilMs: Math.min(access.expiresAtMs, clock.now() + MAX_AGE_MS) })
  }

  return {
    signingKey,
    async verify(token) {
      const hit = verified.get(token)
      if (hit && clock.now() < hit.untilMs) return hit.access
      verified.delete(token)
      const access = await verifyAccessToken(token, env.ISSUER, lookup, clock.now())
      remember(token, access)
      return access
    },
    sign: async (claims) => signAccessToken(await signerUntil(claims.expiresAtMs), { ...claims, issuer: env.ISSUER }),
    signIdentity: async (claims, expiresAtMs) => signStatement(await signerUntil(expiresAtMs), IDENTITY_TYP, claims),
    signStatement: (typ, claims) => signStatement(signingKey(), typ, claims),
    async keys() {
      const now = await current()
      const signing = signerOf(now)?.jwk.kid ?? signingKey().kid
      return [...now.keys].map(([kid, { x }]) => {
        const fromMs = now.signers.find(({ jwk }) => jwk.kid === kid)?.fromMs ?? null
        const isNext = fromMs !== null && fromMs > clock.now()
        return { kid, x, state: kid === signing ? "signing" : isNext ? "next" : "verifying", signsFromMs: fromMs }
      })
    },
    async rotate() {
      const signing = signerOf(await refresh())?.fromMs ?? 0
      const jwk = await newKey()
      const signsFromMs = clock.now() + LEAD_MS
      const sealed = await sealer.seal(jwk.kid, JSON.stringify(jwk))
      await directory.addSigningKey({ kid: jwk.kid, x: jwk.x, sealed, signsFromMs }, signing)
      await refresh()
      return { kid: jwk.kid, x: jwk.x, state: "next", signsFromMs }
    },
    async distrust(kid) {
      const found = await directory.distrustSigningKey(kid, clock.now())
      await refresh()
      return found
    },
  }
}

/** Named by its RFC 7638 thumbprint. */
async function newKey(): Promise<PrivateJwk> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true })
  const jwk = await exportJWK(privateKey)
  return parseSigningKey(JSON.stringify({ ...jwk, kid: await calculateJwkThumbprint(jwk) }))
}
