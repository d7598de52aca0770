/** Exchange (RFC 8693), revocation (RFC 7009), introspection (RFC 7662) and metadata (RFC 8414). */
import { generateKeyPair, SignJWT } from "jose"
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { Token, Trust } from "../../schema/tokens.ts"
import { aCreatedContainer, aTenant, call, problemOf, type TestTenant } from "../support/api.ts"
import { ACCESS_TOKEN, claimsOf, exchange, exchanged, form, ID_TOKEN, TestIssuer, TOKEN_EXCHANGE } from "../support/oauth.ts"
import { anId } from "../support/factories.ts"
import { TEST_ISSUER } from "../support/signing-key.ts"
import { aToken } from "../support/tokens.ts"

let tenant: TestTenant
beforeAll(async () => {
  tenant = await aTenant()
})
afterEach(() => {
  vi.restoreAllMocks()
})
const status = async (path: string, token: string) => (await call("GET", path, { token })).status
const oauthError = async (response: Response) => {
  const { error, error_description } = await response.json<{ error: string; error_description: string }>()
  expect(response.headers.get("content-type")).toContain("application/json")
  expect(error_description).toMatch(/^[\x20-\x7e]+$/)
  return [response.status, error]
}
const about = (fields: object) => JSON.stringify([{ type: "container", ...fields }])

const actedBy = (actor_token: string) => ({ actor_token, actor_token_type: ACCESS_TOKEN })

async function forged(tenantId: string): Promise<string> {
  const { privateKey } = await generateKeyPair("EdDSA")
  return new SignJWT({ ten: tenantId, scope: "containers:read", jti: anId("tok") })
    .setProtectedHeader({ alg: "EdDSA", typ: "at+jwt", kid: "mine" })
    .setIssuer(TEST_ISSUER).setAudience(TEST_ISSUER).setSubject("x").setIssuedAt().setExpirationTime("1h")
    .sign(privateKey) // prettier-ignore
}

describe("a token of this platform in exchange", () => {
  it("becomes a narrower one, with less scope, fewer containers and less time", async () => {
    const { id } = await aCreatedContainer(tenant.token, { name: "x-1" })
    const answer = await exchange(tenant.token, {
      scope: "containers:read",
      authorization_details: about({ name_prefix: "y" }),
      expires_in: "120",
    })
    expect([answer.status, answer.headers.get("cache-control")]).toEqual([200, "no-store"])
    const made = await answer.json<Record<string, unknown>>()
    expect(made).toMatchObject({
      issued_token_type: ACCESS_TOKEN, token_type: "Bearer", expires_in: 120, scope: "containers:read",
      authorization_details: [{ type: "container", name_prefix: "y" }],
    }) // prettier-ignore
    const token = String(made.access_token)
    expect(await status(`/v1/containers/${id}`, token)).toBe(404)
    expect(await status("/v1/containers", token)).toBe(200)
    expect(await status("/v1/events", token)).toBe(403)
    expect(claimsOf(token)).toMatchObject({ sub: "tester", client_id: "tester", chain: [claimsOf(tenant.token).jti] })
  })

  it("never becomes more, whatever is asked for", async () => {
    const narrow = await exchanged(tenant.token, {
      scope: "containers:read",
      authorization_details: about({ name_prefix: "a" }),
      expires_in: "60",
    })
    const again = await exchanged(narrow.access_token, {
      expires_in: "9999",
      authorization_details: about({ labels: { k: "v" } }),
    })
    expect(again.expires_in).toBeLessThanOrEqual(60)
    expect(again).toMatchObject({
      scope: "containers:read",
      authorization_details: [{ type: "container", name_prefix: "a", labels: { k: "v" } }],
    })
    expect(await oauthError(await exchange(narrow.access_token, { scope: "containers:read events:read" }))).toEqual([
      400,
      "invalid_scope",
    ])
    const elsewhere = await exchange(narrow.access_token, { authorization_details: about({ name_prefix: "b" }) })
    expect(await oauthError(elsewhere)).toEqual([400, "invalid_authorization_details"])
  })

  it("needs no scope for it: what one holds, one may hand on narrower", async () => {
    const token = await aToken({ tenant: tenant.id, scopes: ["logs:read", "containers:read"] })
    expect((await exchanged(token, { scope: "logs:read" })).scope).toBe("logs:read")
  })

  it("is on the tenant's record, as made from the first", async () => {
    const made = await exchanged(tenant.token, { scope: "containers:read" })
    const { jti } = claimsOf(made.access_token)
    const view = Token.parse(await (await call("GET", `/v1/tokens/${jti}`, { token: tenant.token })).json())
    expect(view).toMatchObject({ status: "active", parent: claimsOf(tenant.token).jti })
  })

  it("names who acts for the subject, and who acted before", async () => {
    const robot = await aToken({ tenant: tenant.id, subject: "robot" })
    const other = await aToken({ tenant: tenant.id, subject: "other" })
    const first = await exchanged(tenant.token, actedBy(robot))
    expect(claimsOf(first.access_token)).toMatchObject({ sub: "tester", act: { sub: "robot" } })
    const second = await exchanged(first.access_token, actedBy(other))
    expect(claimsOf(second.access_token).act).toEqual({ sub: "other", act: { sub: "robot" } })
    expect(claimsOf((await exchanged(second.access_token)).access_token).act).toEqual({ sub: "other", act: { sub: "robot" } })
    const stranger = await aToken({ tenant: (await aTenant()).id })
    expect(await oauthError(await exchange(tenant.token, actedBy(stranger)))).toEqual([400, "invalid_request"])
    await form("/oauth/revoke", { token: robot })
    expect(await oauthError(await exchange(tenant.token, actedBy(robot)))).toEqual([400, "invalid_request"])
  })

  it("of an operator lives shorter and can be no tenant's", async () => {
    const operator = await aToken()
    const made = await exchanged(operator, { expires_in: "60" })
    expect(made).toMatchObject({ scope: "operator:admin", expires_in: 60 })
    expect(await status("/v1/admin/tenants", made.access_token)).toBe(200)
    expect(await oauthError(await exchange(operator, { scope: "containers:read" }))).toEqual([400, "invalid_scope"])
    await form("/oauth/revoke", { token: operator })
    expect(await status("/v1/admin/tenants", made.access_token)).toBe(401)
    expect(await oauthError(await exchange(operator))).toEqual([400, "invalid_request"])
  })

  const bad: [what: string, fields: () => Promise<Record<string, string>>, error: string][] = [
    ["another grant type", async () => ({ grant_type: "client_credentials" }), "unsupported_grant_type"],
    ["no grant type", async () => ({ grant_type: "" }), "invalid_request"],
    ["a type of token that is not taken", async () => ({ subject_token_type: "urn:ietf:params:oauth:token-type:saml2" }), "invalid_request"],
    ["a type of token that is not given", async () => ({ requested_token_type: ID_TOKEN }), "invalid_request"],
    ["another audience", async () => ({ audience: "https://elsewhere.example" }), "invalid_target"],
    ["another resource", async () => ({ resource: "https://elsewhere.example" }), "invalid_target"],
    ["a scope that there is not", async () => ({ scope: "containers:everything" }), "invalid_scope"],
    ["an operator's scope", async () => ({ scope: "operator:admin" }), "invalid_scope"],
    ["details that are not JSON", async () => ({ authorization_details: "[" }), "invalid_request"],
    ["details of no known type", async () => ({ authorization_details: '[{"type":"x"}]' }), "invalid_request"],
    ["an actor without its type", async () => ({ actor_token: tenant.token }), "invalid_request"],
    ["time that is no number", async () => ({ expires_in: "soon" }), "invalid_request"],
    ["garbage", async () => ({ subject_token: "garbage" }), "invalid_request"],
    ["an expired token", async () => ({ subject_token: await aToken({ tenant: tenant.id, expiresIn: -60 }) }), "invalid_request"],
    ["a token that is not yet valid", async () => ({ subject_token: await aToken({ tenant: tenant.id, notBeforeIn: 60 }) }), "invalid_request"],
    ["a token for another audience", async () => ({ subject_token: await aToken({ tenant: tenant.id, audience: "https://x.example" }) }), "invalid_request"],
    ["a token signed by anybody", async () => ({ subject_token: await forged(tenant.id) }), "invalid_request"],
    ["a trust beside a token of ours", async () => ({ client_id: anId("tru") }), "invalid_request"],
  ] // prettier-ignore
  it.each(bad)("is refused for %s", async (_, fields, error) => {
    expect(await oauthError(await exchange(tenant.token, await fields()))).toEqual([400, error])
  })

  it("is refused as a form of another kind, or with a parameter twice", async () => {
    const json = await call("POST", "/oauth/token", { body: { grant_type: TOKEN_EXCHANGE } })
    expect(await oauthError(json)).toEqual([400, "invalid_request"])
    expect(await oauthError(await form("/oauth/token", "scope=a&scope=b"))).toEqual([400, "invalid_request"])
    expect(await oauthError(await form("/oauth/token", `scope=${"a".repeat(70_000)}`))).toEqual([400, "invalid_request"])
  })

  it("passes over what nobody knows, as the RFC says", async () => {
    expect((await exchange(tenant.token, { colour: "red" })).status).toBe(200)
  })
})

const swap = (client_id: string, subject_token: string, more: Record<string, string> = {}) =>
  exchange(subject_token, { client_id, subject_token_type: ID_TOKEN, ...more })

describe("a token of a trusted issuer", () => {
  let issuer: TestIssuer
  const trust = (fields: object = {}, by = tenant.token) =>
    call("POST", "/v1/trusts", {
      token: by,
      body: {
        name: "deploy",
        issuer: issuer.url,
        conditions: [{ claim: "repository", equals: ["acme/app"] }, { claim: "ref", starts_with: "refs/heads/" }],
        scopes: ["containers:read", "containers:create"],
        authorization_details: [{ type: "container", name_prefix: "web-" }],
        max_lifetime_seconds: 900,
        ...fields,
      },
    }) // prettier-ignore
  const trusted = async (fields: object = {}, by = tenant.token) => Trust.parse(await (await trust(fields, by)).json())
  const GOOD = { repository: "acme/app", ref: "refs/heads/main", aud: TEST_ISSUER }
  async function anIssuer(alg = "RS256"): Promise<void> {
    issuer = new TestIssuer()
    await issuer.useKey(alg)
  }

  it.each(["RS256", "PS256", "ES256", "EdDSA"])("signed with %s becomes one of ours, worth what the trust says", async (alg) => {
    await anIssuer(alg)
    const { id } = await trusted()
    const answer = await swap(id, await issuer.token(GOOD))
    const made = await answer.json<{ access_token: string; expires_in: number }>()
    expect(made).toMatchObject({
      scope: "containers:read containers:create", expires_in: 900, authorization_details: [{ type: "container", name_prefix: "web-" }],
    }) // prettier-ignore
    expect(claimsOf(made.access_token)).toMatchObject({ sub: `${id}:repo:acme/app:ref:refs/heads/main`, chain: [id] })
    expect(await status("/v1/containers", made.access_token)).toBe(200)
    const create = await call("POST", "/v1/containers", {
      token: made.access_token,
      body: { image: "a", name: "db", start: false },
    })
    expect(create.status).toBe(403)
  })

  it("can be narrowed at once, and no further than the trust goes", async () => {
    await anIssuer()
    const { id } = await trusted()
    const token = await issuer.token(GOOD)
    const made = await (await swap(id, token, { scope: "containers:read", expires_in: "60" })).json()
    expect(made).toMatchObject({ scope: "containers:read", expires_in: 60 })
    expect(await (await swap(id, token, { expires_in: "90000" })).json()).toMatchObject({ expires_in: 900 })
    expect(await oauthError(await swap(id, token, { scope: "logs:read" }))).toEqual([400, "invalid_scope"])
  })

  const wrong: [what: string, make: () => Promise<string>][] = [
    ["whose claim is another's", () => issuer.token({ ...GOOD, repository: "evil/app" })],
    ["that lacks a claim", () => issuer.token({ repository: "acme/app", aud: TEST_ISSUER })],
    ["whose claim only begins alike", () => issuer.token({ ...GOOD, repository: "acme/app-fork" })],
    ["for another audience", () => issuer.token({ ...GOOD, aud: "https://elsewhere.example" })],
    ["of another issuer's name", () => issuer.token({ ...GOOD, iss: "https://elsewhere.example" })],
    ["that has expired", () => issuer.token({ ...GOOD, exp: Math.floor(Date.now() / 1000) - 60 })],
    ["that is not yet valid", () => issuer.token({ ...GOOD, nbf: Math.floor(Date.now() / 1000) + 60 })],
    ["that never expires", () => issuer.token({ ...GOOD, exp: undefined })],
    ["of another type", () => issuer.token(GOOD, { typ: "logout+jwt" })],
    [
      "that is not signed",
      async () => `${btoa('{"alg":"none"}').replaceAll("=", "")}.${(await issuer.token(GOOD)).split(".")[1]}.`,
    ],
    ["of a subject without end", () => issuer.token({ ...GOOD, sub: "s".repeat(401) })],
    ["of ours", async () => tenant.token],
  ]
  it.each(wrong)("is refused %s", async (_, make) => {
    await anIssuer()
    const { id } = await trusted()
    expect(await oauthError(await swap(id, await make()))).toEqual([400, "invalid_request"])
  })

  it("is refused with a key that it brings along, or says where to find", async () => {
    await anIssuer()
    const { id } = await trusted()
    const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true })
    const jwk = await crypto.subtle.exportKey("jwk", publicKey)
    for (const header of [{ jwk }, { jku: "https://attacker.example/keys" }, { x5u: "https://attacker.example/cert" }]) {
      const token = await new SignJWT({ ...GOOD, iss: issuer.url, sub: "x" })
        .setProtectedHeader({ alg: "RS256", typ: "JWT", ...header } as never).setIssuedAt().setExpirationTime("5m")
        .sign(privateKey) // prettier-ignore
      expect(await oauthError(await swap(id, token))).toEqual([400, "invalid_request"])
    }
    expect(issuer.asked.every((path) => ["/.well-known/openid-configuration", "/keys"].includes(path))).toBe(true)
  })

  it("is refused by a trust that there is not, or is no more", async () => {
    await anIssuer()
    const token = await issuer.token(GOOD)
    expect(await oauthError(await swap(anId("tru"), token))).toEqual([401, "invalid_client"])
    expect(await oauthError(await swap("x", token))).toEqual([401, "invalid_client"])
    const { id } = await trusted()
    const { access_token } = await (await swap(id, token)).json<{ access_token: string }>()
    expect((await call("DELETE", `/v1/trusts/${id}`, { token: tenant.token })).status).toBe(204)
    expect(await oauthError(await swap(id, token))).toEqual([401, "invalid_client"])
    expect(await status("/v1/containers", access_token)).toBe(401)
  })

  it("has its issuer asked seldom, and again when it takes another key", async () => {
    await anIssuer()
    const { id } = await trusted()
    for (let i = 0; i < 3; i++) expect((await swap(id, await issuer.token(GOOD))).status).toBe(200)
    expect(issuer.asked).toEqual(["/.well-known/openid-configuration", "/keys"])
    await issuer.useKey()
    const next = await issuer.token(GOOD)
    expect(await oauthError(await swap(id, next))).toEqual([400, "invalid_request"])
    vi.spyOn(Date, "now").mockReturnValue(Date.now() + 31_000)
    expect((await swap(id, next)).status).toBe(200)
    expect(issuer.asked).toHaveLength(4)
  })

  const broken: [what: string, breakIt: () => void][] = [
    ["is not there", () => issuer.documents.clear()],
    ["names another issuer", () => issuer.documents.set("/.well-known/openid-configuration", () => Response.json({ issuer: "https://other.example", jwks_uri: `${issuer.url}/keys` }))],
    ["leads inside", () => issuer.documents.set("/.well-known/openid-configuration", () => Response.json({ issuer: issuer.url, jwks_uri: "http://169.254.169.254/keys" }))],
    ["leads on", () => issuer.documents.set("/keys", () => new Response("", { status: 302, headers: { location: "https://elsewhere.example" } }))],
    ["says too much", () => issuer.documents.set("/keys", () => new Response("x".repeat(300_000)))],
    ["says no JSON", () => issuer.documents.set("/keys", () => new Response("<html>"))],
    ["says other JSON", () => issuer.documents.set("/keys", () => Response.json({ keys: "none" }))],
  ] // prettier-ignore
  it.each(broken)("has to wait when its issuer's address %s", async (_, breakIt) => {
    await anIssuer()
    const { id } = await trusted()
    const token = await issuer.token(GOOD)
    breakIt()
    expect(await oauthError(await swap(id, token))).toEqual([503, "temporarily_unavailable"])
  })

  it("is trusted by an administrator's token alone, and for no more than that token has", async () => {
    await anIssuer()
    const weak = await aToken({ tenant: tenant.id, scopes: ["tokens:mint", "containers:read"] })
    expect((await problemOf(await trust({}, weak))).code).toBe("forbidden")
    const some = await aToken({ tenant: tenant.id, scopes: ["tenant:admin", "containers:read"] })
    expect(await problemOf(await trust({}, some))).toMatchObject({ status: 403, errors: [{ pointer: "/scopes/1" }] })
  })

  it.each([
    ["http://issuer.example", "/issuer"],
    ["https://10.0.0.1", "/issuer"],
    ["https://issuer.internal", "/issuer"],
    ["https://[::ffff:10.0.0.1]", "/issuer"],
    ["https://issuer.example?x=1", "/issuer"],
  ])("cannot be at %s", async (url, pointer) => {
    await anIssuer()
    expect((await problemOf(await trust({ issuer: url }))).errors[0]?.pointer).toBe(pointer)
  })

  it("needs a condition, for an issuer signs for everybody", async () => {
    await anIssuer()
    expect((await problemOf(await trust({ conditions: [] }))).errors[0]?.pointer).toBe("/conditions")
  })

  it("is trusted where it is listed, in its tenant alone", async () => {
    await anIssuer()
    const owner = await aTenant()
    const made = await trusted({}, owner.token)
    const list = await (await call("GET", "/v1/trusts", { token: owner.token })).json()
    expect(list).toEqual({ items: [made], next_cursor: null })
    expect(await (await call("GET", `/v1/trusts/${made.id}`, { token: owner.token })).json()).toEqual(made)
    expect(await status(`/v1/trusts/${made.id}`, tenant.token)).toBe(404)
  })
})

describe("revocation", () => {
  it("ends a token that one holds, with all that was made from it, and says the same of any other", async () => {
    const parent = await exchanged(tenant.token, { scope: "containers:read" })
    const child = await exchanged(parent.access_token)
    for (const token of [parent.access_token, parent.access_token, "garbage", await aToken({ expiresIn: -60 })]) {
      const answer = await form("/oauth/revoke", { token, token_type_hint: "access_token" })
      expect([answer.status, await answer.json()]).toEqual([200, {}])
    }
    for (const { access_token } of [parent, child]) expect(await status("/v1/containers", access_token)).toBe(401)
    expect(await oauthError(await exchange(child.access_token))).toEqual([400, "invalid_request"])
    expect(await oauthError(await form("/oauth/revoke", {}))).toEqual([400, "invalid_request"])
    expect((await form("/oauth/revoke", { token: await aToken({ tenant: anId("ten") }) })).status).toBe(200)
  })
})

describe("introspection", () => {
  it("tells an operator what a token is worth", async () => {
    const operator = await aToken()
    const made = await exchanged(tenant.token, { scope: "containers:read", authorization_details: about({ name_prefix: "a" }) })
    const look = async (token: string) =>
      (await form("/oauth/introspect", { token }, { token: operator })).json<Record<string, unknown>>()
    const { jti, exp } = claimsOf(made.access_token)
    expect(await look(made.access_token)).toEqual({
      active: true, iss: TEST_ISSUER, sub: "tester", client_id: "tester", jti, exp, scope: "containers:read", token_type: "Bearer",
      ten: tenant.id, chain: [claimsOf(tenant.token).jti], authorization_details: [{ type: "container", name_prefix: "a" }],
    }) // prettier-ignore
    const view = Token.parse(await (await call("GET", `/v1/tokens/${String(jti)}`, { token: tenant.token })).json())
    expect(view.last_used_at).toBeNull()
    await form("/oauth/revoke", { token: made.access_token })
    for (const token of [made.access_token, "garbage", await aToken({ tenant: anId("ten") })])
      expect(await look(token)).toEqual({ active: false })
    expect(await look(operator)).toMatchObject({ active: true, scope: "operator:admin" })
  })
})

it("says where everything is", async () => {
  const response = await call("GET", "/.well-known/oauth-authorization-server")
  const metadata = await response.json<Record<string, unknown>>()
  expect(metadata).toMatchObject({
    issuer: TEST_ISSUER,
    token_endpoint: `${TEST_ISSUER}/oauth/token`,
    grant_types_supported: [TOKEN_EXCHANGE],
    authorization_details_types_supported: ["container"],
  })
  expect(metadata.scopes_supported).toContain("tokens:mint")
  expect(metadata.scopes_supported).not.toContain("advisor:read")
})
