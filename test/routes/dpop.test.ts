/** Tokens that are bound to a key (RFC 9449): worth nothing to whoever finds them. */
import { base64url, calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from "jose"
import { beforeAll, describe, expect, it } from "vitest"
import { MintedToken } from "../../schema/tokens.ts"
import { aTenant, call, problemOf, type TestTenant } from "../support/api.ts"
import { claimsOf, exchange, exchanged, form } from "../support/oauth.ts"
import { TEST_ISSUER } from "../support/signing-key.ts"
import { aToken } from "../support/tokens.ts"

interface Key {
  readonly jkt: string
  prove(claims: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>
}
async function aKey(alg = "ES256"): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = await exportJWK(publicKey)
  return {
    jkt: await calculateJwkThumbprint(jwk),
    prove: (claims, header = {}) =>
      new SignJWT({ jti: crypto.randomUUID(), htm: "GET", htu: `${TEST_ISSUER}/v1/containers`, iat: Math.floor(Date.now() / 1000), ...claims })
        .setProtectedHeader({ alg, typ: "dpop+jwt", jwk, ...header })
        .sign(privateKey),
  } // prettier-ignore
}
const ath = async (token: string) =>
  base64url.encode(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token))))

const now = () => Math.floor(Date.now() / 1000)

let tenant: TestTenant
let key: Key
let token: string
beforeAll(async () => {
  tenant = await aTenant()
  key = await aKey()
  const answer = await call("POST", "/v1/tokens", {
    token: tenant.token,
    body: { name: "bound", scopes: ["containers:read", "tokens:mint", "events:read"], dpop_jkt: key.jkt },
  })
  const minted = MintedToken.parse(await answer.json())
  expect(minted.token_type).toBe("DPoP")
  token = minted.access_token
})
const show = (proof: string, path = "/v1/containers", scheme = "DPoP") =>
  call("GET", path, { headers: { authorization: `${scheme} ${token}`, dpop: proof } })
const refused = async (response: Response, error: string) => {
  expect(response.headers.get("www-authenticate")).toMatch(new RegExp(`^DPoP realm="berth", error="${error}".*algs="ES256 EdDSA`))
  expect((await problemOf(response)).code).toBe("unauthenticated")
}

describe("a token bound to a key", () => {
  it("opens with a proof by that key, whatever its kind", async () => {
    expect(claimsOf(token).cnf).toEqual({ jkt: key.jkt })
    expect((await show(await key.prove({ ath: await ath(token) }))).status).toBe(200)
    expect((await show(await key.prove({ ath: await ath(token) }), "/v1/containers?limit=5")).status).toBe(200)
    const other = await aKey("EdDSA")
    const made = await call("POST", "/v1/tokens", {
      token: tenant.token,
      body: { name: "b", scopes: ["containers:read"], dpop_jkt: other.jkt },
    })
    const { access_token } = MintedToken.parse(await made.json())
    const dpop = await other.prove({ ath: await ath(access_token) })
    expect((await call("GET", "/v1/containers", { headers: { authorization: `DPoP ${access_token}`, dpop } })).status).toBe(200)
  })

  it("does not open as a bearer token, or without a proof", async () => {
    await refused(await call("GET", "/v1/containers", { token }), "invalid_token")
    await refused(await show(await key.prove({ ath: await ath(token) }), "/v1/containers", "Bearer"), "invalid_token")
    await refused(await call("GET", "/v1/containers", { headers: { authorization: `DPoP ${token}` } }), "invalid_token")
  })

  it("does not make a token that is bound to none one that is", async () => {
    const dpop = await key.prove({ ath: await ath(tenant.token) })
    const answer = await call("GET", "/v1/containers", { headers: { authorization: `DPoP ${tenant.token}`, dpop } })
    await refused(answer, "invalid_token")
  })

  const wrong: [what: string, make: () => Promise<string>][] = [
    ["by another key", async () => (await aKey()).prove({ ath: await ath(token) })],
    ["for another method", async () => key.prove({ ath: await ath(token), htm: "POST" })],
    ["for another path", async () => key.prove({ ath: await ath(token), htu: `${TEST_ISSUER}/v1/events` })],
    ["for another host", async () => key.prove({ ath: await ath(token), htu: "https://elsewhere.example/v1/containers" })],
    ["for no address", async () => key.prove({ ath: await ath(token), htu: "containers" })],
    ["for another token", async () => key.prove({ ath: await ath("another") })],
    ["for no token", () => key.prove({})],
    ["made long ago", async () => key.prove({ ath: await ath(token), iat: now() - 120 })],
    ["made in the future", async () => key.prove({ ath: await ath(token), iat: now() + 120 })],
    ["that has expired", async () => key.prove({ ath: await ath(token), exp: now() - 120 })],
    ["without a name of its own", async () => key.prove({ ath: await ath(token), jti: undefined })],
    ["of another type", async () => key.prove({ ath: await ath(token) }, { typ: "JWT" })],
    ["that brings no key", async () => key.prove({ ath: await ath(token) }, { jwk: undefined })],
    ["that brings another's key", async () => key.prove({ ath: await ath(token) }, { jwk: await exportJWK((await generateKeyPair("ES256", { extractable: true })).publicKey) })],
    ["that is garbage", async () => "garbage"],
    ["twice in one header", async () => `${await key.prove({ ath: await ath(token) })}, ${await key.prove({ ath: await ath(token) })}`],
    ["without end", async () => key.prove({ ath: await ath(token), more: "x".repeat(5000) })],
  ] // prettier-ignore
  it.each(wrong)("does not open with a proof %s", async (_, make) => {
    await refused(await show(await make()), "invalid_dpop_proof")
  })

  it("opens once with one proof, though a call may ask its tenant's object several things", async () => {
    const dpop = await key.prove({ ath: await ath(token) })
    expect((await show(dpop)).status).toBe(200)
    const again = await problemOf(await show(dpop))
    expect([again.code, again.detail]).toEqual(["unauthenticated", expect.stringContaining("used before")])
    const htu = `${TEST_ISSUER}/v1/tokens`
    const post = { name: "x", scopes: ["containers:read"] }
    const proof = await key.prove({ ath: await ath(token), htm: "POST", htu })
    const minting = () => call("POST", "/v1/tokens", { headers: { authorization: `DPoP ${token}`, dpop: proof }, body: post })
    expect((await minting()).status).toBe(201)
    expect((await minting()).status).toBe(401)
  })

  it("makes tokens that are bound as well, to its key or to one that is named", async () => {
    const htu = `${TEST_ISSUER}/v1/tokens`
    const mint = async (body: object) => {
      const headers = { authorization: `DPoP ${token}`, dpop: await key.prove({ ath: await ath(token), htm: "POST", htu }) }
      const answer = await call("POST", "/v1/tokens", { headers, body: { name: "child", scopes: ["containers:read"], ...body } })
      return claimsOf(MintedToken.parse(await answer.json()).access_token).cnf
    }
    const other = await aKey()
    expect(await mint({})).toEqual({ jkt: key.jkt })
    expect(await mint({ dpop_jkt: other.jkt })).toEqual({ jkt: other.jkt })
  })
})

const error = async (response: Response) => (await response.json<{ error: string }>()).error

describe("an exchange", () => {
  const at = { htm: "POST", htu: `${TEST_ISSUER}/oauth/token` }

  it("with a proof gives a token that is bound to its key", async () => {
    const answer = await exchange(tenant.token, { scope: "containers:read" }, { dpop: await key.prove(at) })
    const made = await answer.json<{ access_token: string; token_type: string }>()
    expect([made.token_type, claimsOf(made.access_token).cnf]).toEqual(["DPoP", { jkt: key.jkt }])
    expect((await exchanged(tenant.token)).token_type).toBe("Bearer")
    const seen = await form("/oauth/introspect", { token: made.access_token }, { token: await aToken() })
    expect(await seen.json()).toMatchObject({ active: true, token_type: "DPoP", cnf: { jkt: key.jkt } })
  })

  it("of a bound token needs a proof by its key, so that a found one cannot be set free", async () => {
    expect(await error(await exchange(token))).toBe("invalid_dpop_proof")
    expect(await error(await exchange(token, {}, { dpop: await (await aKey()).prove(at) }))).toBe("invalid_dpop_proof")
    const made = await exchange(token, {}, { dpop: await key.prove(at) })
    expect(claimsOf((await made.json<{ access_token: string }>()).access_token).cnf).toEqual({ jkt: key.jkt })
  })

  it("takes a proof once, and a good one only", async () => {
    const dpop = await key.prove(at)
    expect((await exchange(tenant.token, {}, { dpop })).status).toBe(200)
    expect(await error(await exchange(tenant.token, {}, { dpop }))).toBe("invalid_request")
    expect(await error(await exchange(tenant.token, {}, { dpop: await key.prove({}) }))).toBe("invalid_dpop_proof")
    expect(await error(await exchange(await aToken(), {}, { dpop: await key.prove(at) }))).toBe("invalid_request")
  })
})
