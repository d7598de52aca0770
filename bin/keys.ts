/** The platform's own signing key, and the operator's token that it signs: what must exist before the API can be asked for anything. */
import { randomBytes } from "node:crypto"
import { readFile, writeFile } from "node:fs/promises"
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose"
import { OPERATOR_SCOPE } from "../schema/api.ts"
import { formatId, ID_RANDOM_BYTES } from "../schema/ids.ts"

/** Makes a private Ed25519 JWK whose `kid` is its RFC 7638 thumbprint. */
export async function makeSigningKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true })
  const jwk = await exportJWK(privateKey)
  return { ...jwk, alg: "EdDSA", use: "sig", kid: await calculateJwkThumbprint(jwk) }
}

/** Reads the signing key of a state folder, making it (mode 0600) when there is none. */
export async function signingKeyIn(file: string): Promise<JWK> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as JWK
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error
    const key = await makeSigningKey()
    await writeFile(file, JSON.stringify(key), { mode: 0o600, flag: "wx" })
    return key
  }
}

/** An operator's access token (RFC 9068), signed here because no API can be asked before the first one exists. */
export async function signOperatorToken(key: JWK, issuer: string, subject: string, lifetimeSeconds: number): Promise<string> {
  const now = Date.now()
  return await new SignJWT({ scope: OPERATOR_SCOPE })
    .setProtectedHeader({ alg: "EdDSA", typ: "at+jwt", kid: key.kid ?? "" })
    .setIssuer(issuer)
    .setAudience(issuer)
    .setSubject(subject)
    .setJti(formatId("tok", now, randomBytes(ID_RANDOM_BYTES)))
    .setIssuedAt(Math.floor(now / 1000))
    .setExpirationTime(Math.floor(now / 1000) + lifetimeSeconds)
    .sign(await importJWK(key, "EdDSA"))
}
