/** Walks every operation there is: none may lack what a reader, a client or the authentication needs. */
import { describe, expect, it } from "vitest"
import type { z } from "zod"
import { OPERATOR_SCOPE, TENANT_SCOPES } from "../../../schema/api.ts"
import { ERRORS } from "../../../schema/errors.ts"
import { newApp, OPERATIONS } from "../../../worker/app.ts"
import { apiDocument, errorCodes } from "../../../worker/openapi.ts"

/** Who may be called without an access token, by name: nothing gets onto this list by accident. */
const WITHOUT_TOKEN = {
  enrollNode: "join-token",
  connectNode: "node-assertion",
  registryLogin: "node-assertion",
  identifyRun: "node-assertion",
  getHealth: "public",
  getJwks: "public",
  exchangeToken: "public",
  revokeAnyToken: "public",
  getAuthorizationServer: "public",
  getOpenIdProvider: "public",
} as const

interface Described {
  operationId: string
  tags: string[]
  summary: string
  description: string
  security: Record<string, string[]>[]
  responses: Record<string, { content?: Record<string, { schema?: object; example?: unknown }> }>
  requestBody?: { content: Record<string, { example?: unknown }> }
}

const document = apiDocument(newApp(), "https://berth.test")
const described = Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
  Object.entries(methods as Record<string, Described>).map(([method, operation]) => ({ method, path, operation })),
)

describe.each(OPERATIONS)("$id", (operation) => {
  const entry = described.find((one) => one.operation.operationId === operation.id)?.operation

  it("is in the OpenAPI document with tags, summary and description", () => {
    expect(entry?.tags).toEqual([operation.tag])
    expect(entry?.summary).toMatch(/^[A-Z].+/)
    expect(entry?.description).toMatch(/\.$/)
  })

  it("names the scope it needs, or is on the list of those that need no token", () => {
    const scopes: readonly string[] = [...TENANT_SCOPES, OPERATOR_SCOPE]
    const allowed: Record<string, string> = WITHOUT_TOKEN
    if (operation.id in allowed) expect(operation.access).toBe(allowed[operation.id])
    else expect(scopes).toContain(operation.access)
    const forOperators = operation.path.startsWith("/v1/admin/") || operation.id === "introspectToken"
    expect(forOperators).toBe(operation.access === OPERATOR_SCOPE)
    expect(entry?.security.length).toBe(["public", "join-token"].includes(operation.access) ? 0 : 1)
  })

  it("has examples that its own schemas accept", () => {
    const { params, query, body, answer, example } = operation as typeof operation &
      Record<"params" | "query" | "body", z.ZodType>
    if (params) expect(params.safeParse(example.params).error).toBeUndefined()
    const search = new URLSearchParams(example.query)
    expect(Boolean(query) || search.size === 0).toBe(true)
    if (query) expect(query.safeParse(Object.fromEntries(search)).error).toBeUndefined()
    if (body && example.body !== undefined) expect(body.safeParse(example.body).error).toBeUndefined()
    if (body && !operation.bodyOptional) expect(example.body).toBeDefined()
    if (answer.schema) expect((answer.schema as z.ZodType).safeParse(answer.example).error).toBeUndefined()
  })

  it("describes every error it can give as a problem", () => {
    for (const code of errorCodes(operation)) {
      const response = entry?.responses[ERRORS[code].status]
      expect(response?.content?.["application/problem+json"]?.schema, code).toBeDefined()
    }
    const least = operation.protocol === "oauth" ? [] : ["bad_request", "invalid_field", "internal", "unavailable"]
    expect(errorCodes(operation)).toEqual(expect.arrayContaining(least))
  })
})

it("has no two operations with one name or one address", () => {
  expect(new Set(OPERATIONS.map(({ id }) => id)).size).toBe(OPERATIONS.length)
  expect(new Set(OPERATIONS.map(({ method, path }) => `${method} ${path}`)).size).toBe(OPERATIONS.length)
})

it("describes nothing that is not served, and serves nothing that is not described", () => {
  expect(described.map(({ operation }) => operation.operationId).toSorted()).toEqual(OPERATIONS.map(({ id }) => id).toSorted())
})

it("never says that a parameter may be null, for it is text", () => {
  const parameters = described.flatMap(({ operation }) => ("parameters" in operation ? operation.parameters : []))
  expect(JSON.stringify(parameters)).not.toContain('"null"')
})
