/**
 * Seals answers that are stored to be given again: some hold a token, and the directory must not be a place to read tokens
 * from. AES-256-GCM under a key derived (HKDF-SHA-256) from the platform's signing key, bound to a context.
 */
import { base64url } from "jose"

const IV_BYTES = 12
const text = new TextEncoder()

async function keyFrom(secret: string): Promise<CryptoKey> {
  const material = await crypto.subtle.importKey("raw", base64url.decode(secret), "HKDF", false, ["deriveKey"])
  const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: text.encode("berth stored answers v1") }
  return crypto.subtle.deriveKey(how, material, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"])
}

/** `secret` is base64url; `context` must be the same when it is opened. */
export async function seal(secret: string, context: string, plain: string): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES))
  const how = { name: "AES-GCM", iv, additionalData: text.encode(context) }
  const sealed = await crypto.subtle.encrypt(how, await keyFrom(secret), text.encode(plain))
  return `${base64url.encode(iv)}.${base64url.encode(new Uint8Array(sealed))}`
}

/** Undefined when it was sealed with another secret or for another context. */
export async function unseal(secret: string, context: string, sealed: string): Promise<string | undefined> {
  const [iv = "", data = ""] = sealed.split(".")
  const how = { name: "AES-GCM", iv: base64url.decode(iv), additionalData: text.encode(context) }
  try {
    return new TextDecoder().decode(await crypto.subtle.decrypt(how, await keyFrom(secret), base64url.decode(data)))
  } catch {
    return undefined
  }
}
