/**
 * Proofs of possession (RFC 9449): a token that is bound to a key is worth nothing without it. Here, and nowhere else, a key that
 * comes in a header is used, because the token names its thumbprint: another's key proves nothing. That a proof is shown
 * once only is the TenantObject's to know.
 */
import { base64url, calculateJwkThumbprint, EmbeddedJWK, errors, jwtVerify } from "jose"
import { z } from "zod"
import type { Result } from "../schema/errors.ts"
import { err, ok } from "../schema/errors.ts"
import { sha256, sha256Hex } from "./hash.ts"

export const DPOP_HEADER = "DPoP"
export const DPOP_ALGORITHMS = ["ES256", "EdDSA", "Ed25519"]
const TYP = "dpop+jwt"
/** Clocks differ, and a proof is made just before its call. It is remembered for as long. */
const MAX_AGE_SECONDS = 60
/** One with an EC key is about 500 bytes. */
const MAX_PROOF_BYTES = 4096

const Claims = z.object({
  jti: z.string().min(1).max(256),
  htm: z.string(),
  htu: z.string(),
  iat: z.number(),
  ath: z.string().optional(),
})

/** A proof that holds for one call. */
export interface Proof {
  /** The thumbprint (RFC 7638) of its key. */
  readonly jkt: string
  /** By which it is known when it is shown again. */
  readonly id: string
  readonly untilMs: number
}

export interface ProvenCall {
  readonly method: string
  readonly url: string
  /** The platform's own address, by which a caller may know it where something stands in between. */
  readonly issuer: string
  /** The token that comes with the call; null where it is the call that asks for one. */
  readonly token: string | null
}

/** What is wrong with it, as a sentence about the proof. */
export async function verifyProof(proof: string, call: ProvenCall, nowMs: number): Promise<Result<Proof, string>> {
  if (proof.length > MAX_PROOF_BYTES) return err("is too long")
  try {
    const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, {
      typ: TYP,
      algorithms: DPOP_ALGORITHMS,
      currentDate: new Date(nowMs),
      clockTolerance: MAX_AGE_SECONDS,
    })
    const claims = Claims.safeParse(payload)
    if (!claims.success) return err(`has a wrong ${claims.error.issues[0]?.path.join(".")}, or none`)
    const { jti, htm, htu, iat, ath } = claims.data
    if (htm !== call.method) return err("is for another method")
    if (!leadsTo(htu, call)) return err("is for another address")
    if (Math.abs(iat * 1000 - nowMs) > MAX_AGE_SECONDS * 1000) return err(`was not made within ${MAX_AGE_SECONDS} seconds of now`)
    if (call.token !== null && ath !== base64url.encode(await sha256(call.token))) return err("is for another token")
    const jkt = await calculateJwkThumbprint(protectedHeader.jwk ?? { kty: "" })
    return ok({ jkt, id: await sha256Hex(`${jkt} ${jti}`), untilMs: (iat + MAX_AGE_SECONDS) * 1000 })
  } catch (error) {
    if (error instanceof errors.JOSEError || error instanceof TypeError) return err("is not a JWT as RFC 9449 describes it")
    throw error
  }
}

/** Without query and fragment (section 4.3). */
function leadsTo(htu: string, { url, issuer }: ProvenCall): boolean {
  if (!URL.canParse(htu)) return false
  const [said, called] = [new URL(htu), new URL(url)]
  return said.pathname === called.pathname && [called.origin, new URL(issuer).origin].includes(said.origin)
}
