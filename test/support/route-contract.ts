/**
 * What every authenticated operation owes, whatever it does: who may not call it, and what is nobody else's business. The cases
 * run for each operation that the OpenAPI document has, so a new one is held to them without a line of its own.
 */
import { beforeAll, expect, it } from "vitest"
import type { ErrorCode } from "../../schema/errors.ts"
import { NARROWABLE, OPERATOR_SCOPE, TENANT_SCOPES } from "../../schema/tokens.ts"
import type { CallOptions, TestTenant } from "./api.ts"
import { aCreatedContainer, aTenant, call, problemOf } from "./api.ts"
import { TEST_SIGNING_KEY } from "./signing-key.ts"
import type { TokenOptions } from "./tokens.ts"
import { aToken, unsigned } from "./tokens.ts"

/** An operation as the document describes it, with what is needed to call it as its example does. */
export interface ContractOperation {
  readonly operationId: string
  readonly method: string
  readonly path: string
  readonly scope: string
  readonly parameters: readonly { name: string; in: string; schema: { examples?: readonly string[] } }[]
  readonly body: unknown
  /** What it takes is a form, and its refusals have OAuth's form. */
  readonly oauth: boolean
}

interface Document {
  readonly paths?: Record<string, object>
}

/** The operations of the document that need an access token. */
export function authenticatedOperations(document: Document): ContractOperation[] {
  return Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) => {
      const scope = operation.security?.flatMap((rule: { bearer?: string[] }) => rule.bearer ?? [])[0]
      if (scope === undefined) return []
      const { operationId, parameters = [], requestBody } = operation
      return [
        {
          operationId,
          method: method.toUpperCase(),
          path,
          scope,
          parameters,
          body: Object.values(requestBody?.content ?? {}).map((media) => (media as { example: unknown }).example)[0],
          oauth: operation["x-berth-protocol"] === "oauth",
        },
      ]
    }),
  )
}

/** The operation's own example, with other path parameters where they are given. */
function example(operation: ContractOperation, params: Record<string, string> = {}): [path: string, CallOptions] {
  const path = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const parameter = operation.parameters.find((one) => one.in === "path" && one.name === name)
    return params[name] ?? parameter?.schema.examples?.[0] ?? "missing-example"
  })
  if (operation.oauth) {
    const headers = { "content-type": "application/x-www-form-urlencoded" }
    return [path, { body: new URLSearchParams(operation.body as Record<string, string>).toString(), headers }]
  }
  return [path, operation.body === undefined ? {} : { body: operation.body }]
}

/** Another key under the name of the platform's own. */
const FORGED = {
  kty: "OKP",
  crv: "Ed25519",
  x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
  d: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
}

export function holdsToTheContract(operation: ContractOperation): void {
  const forOperator = operation.scope === OPERATOR_SCOPE
  let tenant: TestTenant
  beforeAll(async () => {
    tenant = await aTenant()
  })
  const token = (options: TokenOptions = {}) => aToken({ ...(forOperator ? {} : { tenant: tenant.id }), ...options })

  async function answer(withToken?: string, params?: Record<string, string>): Promise<Response> {
    const [path, options] = example(operation, params)
    return call(operation.method, path, { ...options, ...(withToken !== undefined && { token: withToken }) })
  }

  async function refuses(withToken: string | undefined, code: ErrorCode): Promise<Response> {
    const response = await answer(withToken)
    const problem = await problemOf(response.clone())
    expect(problem.code).toBe(code)
    expect(response.headers.get("content-type")).toBe("application/problem+json")
    expect(response.headers.get("x-request-id")).toBe(problem.request_id)
    expect(response.headers.get("cache-control")).toBe("no-store")
    return response
  }

  it("asks for a token when there is none, and says no more than the scheme", async () => {
    const response = await refuses(undefined, "unauthenticated")
    expect(response.headers.get("www-authenticate")).toBe('Bearer realm="berth"')
  })

  const wrong: [what: string, make: () => Promise<string>][] = [
    ["garbage", async () => "garbage"],
    ["three parts of garbage", async () => "e30.e30.e30"],
    ["a signature by another key under our key's name", () => token({ key: FORGED })],
    ["a key id that nobody knows", () => token({ kid: "nobodys", key: FORGED })],
    ["no signature at all (alg none)", async () => unsigned(await token())],
    ["a changed claim", async () => changed(await token())],
    ["a token that is not yet valid", () => token({ notBeforeIn: 120 })],
    ["another audience", () => token({ audience: "https://elsewhere.test" })],
    ["another issuer", () => token({ issuer: "https://elsewhere.test" })],
    ["another type of token", () => token({ typ: "JWT" })],
    ["a node's type of token", () => token({ typ: "node-assertion+jwt" })],
    ["a tenant claim that is no tenant's id", () => token({ claims: { ten: "../other" } })],
    ["a token that is absurdly long", () => token({ subject: "s".repeat(10_000) })],
  ]
  it.each(wrong)("refuses %s", async (_, make) => {
    const response = await refuses(await make(), "unauthenticated")
    expect(response.headers.get("www-authenticate")).toMatch(/^Bearer realm="berth", error="invalid_token"/)
  })

  it("refuses a token that is bound to a key and comes without a proof", async () => {
    const response = await refuses(await token({ claims: { cnf: { jkt: "A".repeat(43) } } }), "unauthenticated")
    expect(response.headers.get("www-authenticate")).toMatch(/^DPoP realm="berth", error="invalid_token"/)
  })

  it("says of an expired token that it has expired", async () => {
    await refuses(await token({ expiresIn: -60 }), "token_expired")
  })

  it("names the scope that a token lacks", async () => {
    const others = [...TENANT_SCOPES, OPERATOR_SCOPE].filter((scope) => scope !== operation.scope)
    const response = await refuses(await token({ scopes: others }), "forbidden")
    expect((await problemOf(response)).detail).toContain(operation.scope)
    expect(response.headers.get("www-authenticate")).toContain(`error="insufficient_scope", scope="${operation.scope}"`)
  })

  it("takes no scope for another kind of caller", async () => {
    const scopes = [...TENANT_SCOPES, OPERATOR_SCOPE]
    await refuses(await aToken(forOperator ? { tenant: tenant.id, scopes } : { scopes }), "forbidden")
  })

  it("checks the token before it looks at anything else", async () => {
    const [path] = example(operation)
    const response = await call(operation.method, `${path}?no=such`, operation.method === "GET" ? {} : { body: "{" })
    expect((await problemOf(response)).code).toBe("unauthenticated")
  })

  it("lets a good token through to the operation", async () => {
    expect([401, 403, 405, 500]).not.toContain((await answer(await token())).status)
  })

  // OAuth's RFCs would have an unknown one passed over.
  if (!operation.oauth)
    it("refuses a query parameter that it does not know", async () => {
      const [path, options] = example(operation)
      const response = await call(operation.method, `${path}?no-such=1`, { ...options, token: await token() })
      expect((await problemOf(response)).errors).toContainEqual({ pointer: "?no-such", message: "is not a known name" })
    })

  it("refuses a token from the moment when it was revoked, and one that was made from it", async () => {
    const revoked = await token()
    const made = await token({ claims: { chain: [idIn(revoked)] } })
    expect((await revoke(revoked)).status).toBe(200)
    for (const one of [revoked, made])
      expect((await problemOf(await refuses(one, "unauthenticated"))).detail).toContain("revoked")
  })

  if (forOperator) return

  it("shows a token that is for some containers nothing of another", async () => {
    const { id } = await aCreatedContainer(tenant.token, { name: `outside-${crypto.randomUUID().slice(0, 8)}` })
    const narrow = await token({ claims: { authorization_details: [{ type: "container", name_prefix: "inside" }] } })
    const response = await answer(narrow, operation.path.startsWith("/v1/containers/") ? { id } : {})
    if (!NARROWABLE.has(operation.scope)) expect((await problemOf(response)).code).toBe("forbidden")
    else if (operation.path.includes("{id}")) expect((await problemOf(response)).code).toBe("not_found")
    else {
      const text = await response.text()
      expect(response.status).toBeLessThan(500)
      expect(text).not.toContain(id)
    }
  })

  if (operation.path.includes("{id}"))
    it("answers for another tenant's thing as if there were none, and leaves it alone", async () => {
      const other = await aTenant()
      const [, kind = ""] = /^\/v1\/([a-z-]+)\/\{id\}/.exec(operation.path) ?? []
      const theirs = await aThing(kind, other)
      for (const id of theirs.names) {
        const problem = await problemOf(await answer(await token(), { id }))
        expect(problem.code).toBe("not_found")
        expect(problem.detail).not.toContain(other.id)
      }
      expect(await theirs.now()).toEqual(theirs.before)
    })
}

const idIn = (token: string): string =>
  JSON.parse(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"))).jti
const revoke = (token: string) =>
  call("POST", "/oauth/revoke", {
    body: new URLSearchParams({ token }).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  })

/** How each kind of thing that a path can name is made. A path of a new kind fails here until it is added. */
const KINDS: Record<string, object> = {
  containers: { image: "a", start: false, name: "theirs" },
  tokens: { name: "theirs", scopes: ["containers:read"] },
  trusts: {
    name: "theirs",
    issuer: "https://issuer.example",
    conditions: [{ claim: "sub", equals: ["x"] }],
    scopes: ["containers:read"],
  },
  webhooks: { url: "https://hooks.example.com/theirs" },
  "registry-credentials": { registry: "registry.example", username: "theirs", password: "secret" },
}

async function aThing(kind: string, { token }: TestTenant) {
  const body = KINDS[kind]
  if (body === undefined) throw new Error(`Nothing is known of /v1/${kind}: add how one is made to KINDS.`)
  const answer = await call("POST", `/v1/${kind}`, { token, body })
  if (answer.status !== 201) throw new Error(`no ${kind} was made: ${await answer.text()}`)
  const made = await answer.json<{ id?: string; name?: string; webhook?: { id: string } }>()
  const id = made.id ?? made.webhook?.id ?? ""
  const now = async () => {
    const { items } = await (await call("GET", `/v1/${kind}`, { token })).json<{ items: { id: string }[] }>()
    return items.find((item) => item.id === id)
  }
  return { names: kind === "containers" ? [id, "theirs"] : [id], now, before: await now() }
}

/** The same signature under other claims. */
function changed(token: string): string {
  const [header, , signature] = token.split(".")
  const claims = btoa(JSON.stringify({ scope: OPERATOR_SCOPE, sub: "x", kid: TEST_SIGNING_KEY.kid })).replaceAll("=", "")
  return `${header}.${claims}.${signature}`
}
