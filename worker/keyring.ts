/**
 * The keys that tokens are verified with, held in the isolate: the platform's own, and those of earlier ones whose tokens are
 * still valid. Verified tokens are remembered as well, because a client sends the same one with every call.
 */
import type { JWTPayload } from "jose"
import type { Clock, Env } from "../durable/shared/ports.ts"
import type { Directory } from "./directory.ts"
import type { AccessClaims, PrivateJwk, VerifiedAccess } from "./tokens.ts"
import { importPublicKey, parseSigningKey, signAccessToken, signStatement, verifyAccessToken } from "./tokens.ts"

/** A key that was taken out of the directory is believed this much longer. */
const MAX_AGE_MS = 60_000
/** An unknown `kid` makes the directory be read again, but not more often than this: anyone can invent key ids. */
const MIN_AGE_MS = 5_000
/** Tokens remembered; at about 1 KiB each. */
const MAX_VERIFIED = 1_000

export interface Keyring {
  /** Whose token this is. @throws AppError `unauthenticated` or `token_expired`. */
  verify(token: string): Promise<VerifiedAccess>
  /** Signs with the platform's own key, and makes sure that the token outlives a rotation of it. */
  sign(claims: Omit<AccessClaims, "issuer">): Promise<string>
  /** Signs something that is no token, such as a checkpoint of an audit log; `typ` names its kind. */
  signStatement(typ: string, claims: JWTPayload): Promise<string>
  /** Public keys, as `/.well-known/jwks.json` shows them. */
  publicKeys(): Promise<{ kid: string; x: string }[]>
  /** The platform's own private key. @throws Error when the platform is set up without one. */
  signingKey(): PrivateJwk
}

interface Known {
  readonly keys: Map<string, { readonly x: string; readonly key: CryptoKey }>
  readonly readAtMs: number
}

export function openKeyring(env: Pick<Env, "ISSUER" | "SIGNING_KEY">, directory: Directory, clock: Clock): Keyring {
  let own: PrivateJwk | undefined
  let known: Known | undefined
  const verified = new Map<string, { readonly access: VerifiedAccess; readonly untilMs: number }>()

  const signingKey = () => (own ??= parseSigningKey(env.SIGNING_KEY))

  /** Never shared between requests: what one request awaits must not hang on another's I/O, which may be cancelled. */
  async function refresh(): Promise<Known> {
    const { kid, x } = signingKey()
    const nowMs = clock.now()
    const rows = [...(await directory.signingKeys(nowMs)), { kid, x }]
    const keys = await Promise.all(rows.map(async (row) => [row.kid, { x: row.x, key: await importPublicKey(row.x) }] as const))
    known = { keys: new Map(keys), readAtMs: nowMs }
    verified.clear()
    return known
  }
  async function current(): Promise<Known> {
    return known && clock.now() - known.readAtMs < MAX_AGE_MS ? known : refresh()
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
    async sign(claims) {
      const key = signingKey()
      await directory.keepSigningKey({ kid: key.kid, x: key.x, untilMs: claims.expiresAtMs })
      return signAccessToken(key, { ...claims, issuer: env.ISSUER })
    },
    signStatement: (typ, claims) => signStatement(signingKey(), typ, claims),
    async publicKeys() {
      return [...(await current()).keys].map(([kid, { x }]) => ({ kid, x }))
    },
  }
}
