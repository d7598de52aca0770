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
export const signingKeyIn = async (file: string): Promise<JWK> =>
  JSON.parse(await keptIn(file, async () => JSON.stringify(await makeSigningKey()))) as JWK

/** Makes the secret under which the platform seals others' secrets: 32 random bytes, base64url. */
export const makeSecretsKey = (): string => randomBytes(32).toString("base64url")

/** Reads the secrets key of a state folder, making it (mode 0600) when there is none. */
export const secretsKeyIn = (file: string): Promise<string> => keptIn(file, async () => makeSecretsKey())

async function keptIn(file: string, make: () => Promise<string>): Promise<string> {
  try {
    return (await readFile(file, "utf8")).trim()
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error
    const made = await make()
    await writeFile(file, made, { mode: 0o600, flag: "wx" })
    return made
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
