/** OAuth's endpoints as a client calls them, and an issuer of its own that the platform may be made to trust. */
import type { CryptoKey, JWTPayload } from "jose"
import { exportJWK, generateKeyPair, SignJWT } from "jose"
import { vi } from "vitest"
import { call } from "./api.ts"

export const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
export const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
export const ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"

export const form = (
  path: string,
  fields: Record<string, string> | string,
  options: { token?: string; headers?: Record<string, string> } = {},
) =>
  call("POST", path, {
    token: options.token,
    body: typeof fields === "string" ? fields : new URLSearchParams(fields).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", ...options.headers },
  })

export const exchange = (subject_token: string, more: Record<string, string> = {}, headers: Record<string, string> = {}) =>
  form("/oauth/token", { grant_type: TOKEN_EXCHANGE, subject_token, subject_token_type: ACCESS_TOKEN, ...more }, { headers })

export interface Exchanged {
  readonly access_token: string
  readonly expires_in: number
  readonly scope: string
  readonly token_type: string
  readonly authorization_details?: unknown
}

export async function exchanged(subjectToken: string, more: Record<string, string> = {}): Promise<Exchanged> {
  const answer = await exchange(subjectToken, more)
  if (answer.status !== 200) throw new Error(`nothing came of it: ${await answer.text()}`)
  return answer.json<Exchanged>()
}

export const claimsOf = (token: string): JWTPayload & Record<string, unknown> =>
  JSON.parse(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/")))

/** An OpenID Connect issuer at an address that only the platform's own fetch leads to. */
export class TestIssuer {
  readonly url: string
  /** What its addresses answer, by path; a test may change it. */
  readonly documents = new Map<string, () => Response>()
  readonly asked: string[] = []
  #key: { kid: string; alg: string; privateKey: CryptoKey } | undefined

  constructor(url = `https://issuer-${crypto.randomUUID().slice(0, 8)}.example`) {
    this.url = url
    const real = globalThis.fetch
    vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
      const address = input instanceof Request ? input.url : String(input)
      if (!address.startsWith(this.url)) return real(input, init)
      const path = address.slice(this.url.length)
      this.asked.push(path)
      return this.documents.get(path)?.() ?? new Response("", { status: 404 })
    })
  }

  /** Makes its key, or the next, and says so at its addresses. */
  async useKey(alg = "RS256"): Promise<void> {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
    const kid = crypto.randomUUID()
    this.#key = { kid, alg, privateKey }
    const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" }
    this.documents.set("/.well-known/openid-configuration", () =>
      Response.json({ issuer: this.url, jwks_uri: `${this.url}/keys` }),
    )
    this.documents.set("/keys", () => Response.json({ keys: [jwk] }))
  }

  async token(claims: JWTPayload, header: Record<string, unknown> = {}): Promise<string> {
    if (!this.#key) throw new Error("the issuer has no key yet")
    const { kid, alg, privateKey } = this.#key
    const now = Math.floor(Date.now() / 1000)
    return new SignJWT({ iss: this.url, sub: "repo:acme/app:ref:refs/heads/main", iat: now, exp: now + 300, ...claims })
      .setProtectedHeader({ alg, kid, typ: "JWT", ...header })
      .sign(privateKey)
  }
}
