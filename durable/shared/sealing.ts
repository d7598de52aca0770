/**
 * Seals what is stored and must not be read there: secrets that are used again, answers that hold one. AES-256-GCM under a
 * key derived (HKDF-SHA-256) from a secret that no database has, bound to a purpose and a context.
 */
import { base64url } from "jose"

const IV_BYTES = 12
const text = new TextEncoder()

async function keyFrom(secret: string, purpose: string): Promise<CryptoKey> {
  const material = await crypto.subtle.importKey("raw", base64url.decode(secret), "HKDF", false, ["deriveKey"])
  const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: text.encode(`berth ${purpose} v1`) }
  return crypto.subtle.deriveKey(how, material, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"])
}

export interface Sealer {
  /** `context` must be the same when it is opened: what was sealed for one thing is worth nothing in another's place. */
  seal(context: string, plain: string): Promise<string>
  /** Undefined when it was sealed with another secret, for another purpose or for another context. */
  unseal(context: string, sealed: string): Promise<string | undefined>
}

/** `secret` is base64url. @throws Error when it is not set. */
export function sealerFor(secret: string | undefined, purpose: string): Sealer {
  let key: Promise<CryptoKey> | undefined
  const opened = () => {
    if (!secret) throw new Error("SECRETS_KEY is not set: the platform cannot keep secrets.")
    return (key ??= keyFrom(secret, purpose))
  }
  return {
    async seal(context, plain) {
      const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES))
      const how = { name: "AES-GCM", iv, additionalData: text.encode(context) }
      const sealed = await crypto.subtle.encrypt(how, await opened(), text.encode(plain))
      return `${base64url.encode(iv)}.${base64url.encode(new Uint8Array(sealed))}`
    },
    async unseal(context, sealed) {
      const [iv = "", data = ""] = sealed.split(".")
      const how = { name: "AES-GCM", iv: base64url.decode(iv), additionalData: text.encode(context) }
      const unsealing = await opened()
      try {
        return new TextDecoder().decode(await crypto.subtle.decrypt(how, unsealing, base64url.decode(data)))
      } catch {
        return undefined
      }
    },
  }
}
