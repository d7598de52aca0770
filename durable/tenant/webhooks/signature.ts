/**
 * Keys and signatures of Standard Webhooks 1.0: `v1` is HMAC-SHA-256 with a shared secret, `v1a` Ed25519 with a key pair.
 * Both sign `<id>.<timestamp>.<body>`, and one header holds them all, so that keys change without a message lost.
 */
import { base64url, exportJWK, generateKeyPair, importJWK, type JWK } from "jose"

const SECRET_BYTES = 32
const SECRET_PREFIX = "whsec_"
const PUBLIC_PREFIX = "whpk_"
const utf8 = new TextEncoder()

/** The private halves, as they are sealed. */
export interface SigningKeys {
  /** base64 of the HMAC secret. */
  readonly secret: string
  readonly ed25519: JWK
}

const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes))
const unbase64 = (text: string) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0))

export async function makeKeys(): Promise<{ readonly keys: SigningKeys; readonly public_key: string }> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true })
  const ed25519 = await exportJWK(privateKey)
  const secret = base64(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)))
  return { keys: { secret, ed25519 }, public_key: base64(base64url.decode(ed25519.x ?? "")) }
}

/** As receivers take them. */
export const shownSecret = (keys: SigningKeys): string => `${SECRET_PREFIX}${keys.secret}`
export const shownPublicKey = (publicKey: string): string => `${PUBLIC_PREFIX}${publicKey}`

/** Keys made ready once, because every attempt signs. */
export interface Signer {
  sign(content: Uint8Array): Promise<readonly string[]>
}

export async function signerOf({ secret, ed25519 }: SigningKeys): Promise<Signer> {
  const hmac = await crypto.subtle.importKey("raw", unbase64(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"])
  const pair = await importJWK(ed25519, "EdDSA")
  if (pair instanceof Uint8Array) throw new Error("an endpoint's Ed25519 key is not a key")
  return {
    async sign(content) {
      const [v1, v1a] = await Promise.all([
        crypto.subtle.sign("HMAC", hmac, content),
        crypto.subtle.sign({ name: "Ed25519" }, pair, content),
      ])
      return [`v1,${base64(new Uint8Array(v1))}`, `v1a,${base64(new Uint8Array(v1a))}`]
    },
  }
}

/** The three headers of one attempt. `atSeconds`: when it is made. */
export async function signedHeaders(
  signers: readonly Signer[],
  id: string,
  atSeconds: number,
  body: string,
): Promise<Record<string, string>> {
  const content = utf8.encode(`${id}.${atSeconds}.${body}`)
  const signatures = await Promise.all(signers.map((signer) => signer.sign(content)))
  return {
    "webhook-id": id,
    "webhook-timestamp": String(atSeconds),
    "webhook-signature": signatures.flat().join(" "),
  }
}
