/**
 * What every authenticated operation owes, whatever it does: who may not call it, and what is nobody else's business. The cases
 * run for each operation that the OpenAPI document has, so a new one is held to them without a line of its own.
 */
import { beforeAll, describe, expect, it } from "vitest"
import { OPERATOR_SCOPE, TENANT_SCOPES } from "../../schema/api.ts"
import type { ErrorCode } from "../../schema/errors.ts"
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
          body: requestBody?.content["application/json"]?.example,
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

  it("refuses a query parameter that it does not know", async () => {
    const [path, options] = example(operation)
    const response = await call(operation.method, `${path}?no-such=1`, { ...options, token: await token() })
    expect((await problemOf(response)).errors).toContainEqual({ pointer: "?no-such", message: "is not a known name" })
  })

  if (!forOperator && operation.path.includes("{id}"))
    describe("on another tenant's container", () => {
      it("answers as if it did not exist, by id and by name", async () => {
        const other = await aTenant()
        const theirs = await aCreatedContainer(other.token, { name: "theirs" })
        for (const id of [theirs.id, "theirs"]) {
          const response = await answer(await token(), { id })
          const problem = await problemOf(response)
          expect(problem.code).toBe("not_found")
          expect(problem.detail).not.toContain(other.id)
        }
        const still = await call("GET", `/v1/containers/${theirs.id}`, { token: other.token })
        expect(await still.json()).toEqual(theirs)
      })
    })
}

/** The same signature under other claims. */
function changed(token: string): string {
  const [header, , signature] = token.split(".")
  const claims = btoa(JSON.stringify({ scope: OPERATOR_SCOPE, sub: "x", kid: TEST_SIGNING_KEY.kid })).replaceAll("=", "")
  return `${header}.${claims}.${signature}`
}
