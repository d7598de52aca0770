/**
 * The OpenAPI 3.1 description, made from the same operations that run. Which errors an operation may give follows from what it
 * is: who may call it, whether it takes a body or a query, whether it changes something.
 */
import type { OpenAPIHono, RouteConfig } from "@hono/zod-openapi"
import { z } from "zod"
import { Container, MAX_WAIT_SECONDS, OPERATOR_SCOPE, Problem } from "../schema/api.ts"
import type { ErrorCode } from "../schema/errors.ts"
import { ERRORS } from "../schema/errors.ts"
import type { AppEnv } from "./env.ts"
import { PROBLEM_MEDIA, problemType } from "./errors.ts"
import { IDEMPOTENCY_HEADER } from "./middleware/idempotency.ts"
import { APPLIED_HEADER, PREFER_HEADER } from "./middleware/prefer.ts"
import { OAUTH_STATUSES, OAuthProblem } from "./oauth.ts"
import type { Operation } from "./operation.ts"
import { isScope, TAGS } from "./operation.ts"
import { webhookMessages } from "./webhook-messages.ts"

/** Rises with each change of the API that a client can see. */
const API_VERSION = "0.1.0"

const IdempotencyHeader = z.object({
  [IDEMPOTENCY_HEADER]: z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/)
    .optional()
    .meta({
      description:
        "Any text of your choice. The same key with the same call gets the first answer again, for 24 hours, with the header " +
        "`Idempotency-Replayed: true`.",
      examples: ["deploy-4711"],
    }),
})

const HoldHeader = IdempotencyHeader.extend({
  [PREFER_HEADER]: z
    .string()
    .optional()
    .meta({
      description:
        `\`wait=N\`: hold the answer until the container runs or has ended, ${MAX_WAIT_SECONDS} seconds at most; after N seconds it ` +
        "shows the container as it is then (RFC 7240). A repeat with the same `Idempotency-Key` may wait as well, and makes nothing.",
      examples: ["wait=30"],
    }),
})

/** Every code that the operation can answer with, in the order of schema/errors.ts. */
export function errorCodes(operation: Operation): ErrorCode[] {
  // Those of OAuth are in oauth.ts; what refuses an operator's token is in front of it.
  if (operation.protocol === "oauth") return isScope(operation.access) ? ["unauthenticated", "token_expired", "forbidden"] : []
  const codes = new Set<ErrorCode>([...operation.errors, "bad_request", "invalid_field", "internal", "unavailable"])
  if (isScope(operation.access) || operation.access === "node-assertion") codes.add("unauthenticated").add("token_expired")
  if (isScope(operation.access)) codes.add("forbidden").add("rate_limited")
  // A tenant's token may outlive its tenant.
  if (isScope(operation.access) && operation.access !== OPERATOR_SCOPE) codes.add("not_found")
  if (operation.method !== "get") codes.add("idempotency_in_progress").add("idempotency_mismatch").add("body_too_large")
  if (operation.body !== undefined) codes.add("malformed_json").add("unsupported_media_type")
  return (Object.keys(ERRORS) as ErrorCode[]).filter((code) => codes.has(code))
}

export function describe(operation: Operation): RouteConfig {
  const { answer, example } = operation
  const mutating = operation.method !== "get" && operation.protocol !== "oauth"
  const body = operation.body as z.ZodType | undefined
  return {
    operationId: operation.id,
    method: operation.method,
    path: operation.path,
    tags: [operation.tag],
    summary: operation.summary,
    description: operation.description,
    security: securityOf(operation),
    "x-berth-access": operation.access,
    ...(operation.protocol && { "x-berth-protocol": operation.protocol }),
    "x-berth-errors": errorCodes(operation),
    "x-codeSamples": [{ lang: "shell", label: "curl", source: curl(operation) }],
    request: {
      ...(operation.params !== undefined && { params: operation.params as z.ZodObject }),
      ...(operation.query !== undefined && { query: operation.query as z.ZodObject }),
      ...(mutating && { headers: operation.mayHold ? HoldHeader : IdempotencyHeader }),
      ...(body && {
        body: {
          required: !operation.bodyOptional,
          content: Object.fromEntries(
            mediaOf(operation).map((media) => [
              media,
              { schema: body, ...(example.body !== undefined && { example: example.body }) },
            ]),
          ),
        },
      }),
    },
    responses: {
      [answer.status]: {
        description: answer.description,
        headers: headersOf(operation),
        ...(contentOf(operation) && { content: contentOf(operation) }),
      },
      ...(answer.other && { [answer.other.status]: otherOf(answer.other) }),
      ...problems(operation),
      ...(operation.protocol === "oauth" && oauthProblems(operation)),
    },
  } as RouteConfig
}

const FORM_MEDIA = "application/x-www-form-urlencoded"
const mediaOf = ({ protocol, bodyMedia = [] }: Operation) =>
  protocol === "oauth" ? [FORM_MEDIA] : ["application/json", ...bodyMedia]

function oauthProblems({ access }: Operation): Record<number, object> {
  const example = { error: "invalid_request", error_description: "The token has expired; get a new one." }
  const response = {
    description: "What is wrong, as RFC 6749 says it (section 5.2).",
    content: { "application/json": { schema: OAuthProblem, example } },
  }
  return Object.fromEntries(
    OAUTH_STATUSES.filter((status) => status !== 401 || !isScope(access)).map((status) => [status, response]),
  )
}

function securityOf({ access }: Operation): Record<string, string[]>[] {
  if (isScope(access)) return [{ bearer: [access] }]
  return access === "node-assertion" ? [{ nodeAssertion: [] }] : []
}

const headersOf = ({ access, answer, method, mayHold, protocol }: Operation) => {
  const said = {
    ...answer.headers,
    ...(mayHold && { [APPLIED_HEADER]: "`wait=N` when the answer was held as you preferred, with the N that counted." }),
    ...(method !== "get" && protocol !== "oauth" && { "Idempotency-Replayed": "true when this is an earlier answer again." }),
  }
  const limits = isScope(access) && {
    "RateLimit-Policy": "How often you may call: `q` calls in `w` seconds.",
    RateLimit: "What is left: `r` calls, for `t` more seconds.",
  }
  const headers = { "X-Request-Id": "This request's id.", ...limits, ...said }
  return Object.fromEntries(
    Object.entries(headers).map(([name, description]) => [name, { description, schema: { type: "string" } }]),
  )
}

function contentOf({ answer }: Operation): Record<string, object> | undefined {
  const json = answer.schema === undefined ? {} : { "application/json": { schema: answer.schema, example: answer.example } }
  const media = Object.entries(answer.media ?? {}).map(([type, example]) => [type, { schema: { type: "string" }, example }])
  const content = { ...json, ...Object.fromEntries(media) }
  return Object.keys(content).length > 0 ? content : undefined
}

const otherOf = ({ description, schema, example }: NonNullable<Operation["answer"]["other"]>) => ({
  description,
  headers: { "X-Request-Id": { description: "This request's id.", schema: { type: "string" } } },
  content: { "application/json": { schema, example } },
})

/** `wait` answers with the container as it is, beside what is wrong. */
const WAIT_CODES: readonly ErrorCode[] = ["wait_timeout", "never_reached"]
const WaitProblem = Problem.extend({ container: Container }).meta({ id: "WaitProblem" })

/** One response for each status, naming its codes. */
function problems(operation: Operation): Record<number, object> {
  const byStatus = Object.groupBy(errorCodes(operation), (code) => ERRORS[code].status)
  return Object.fromEntries(
    Object.entries(byStatus).map(([status, codes = []]) => [
      status,
      {
        description: codes.map((code) => `\`${code}\`: ${ERRORS[code].title}.`).join(" "),
        content: {
          [PROBLEM_MEDIA]: {
            schema: codes.some((code) => WAIT_CODES.includes(code)) ? WaitProblem : Problem,
            example: exampleOf(codes[0]),
          },
        },
      },
    ]),
  )
}

function exampleOf(code: ErrorCode = "internal"): object {
  const { status, retryable, title } = ERRORS[code]
  return {
    type: problemType(code),
    title,
    status,
    detail: `${title}.`,
    code,
    retryable,
    errors: [],
    request_id: "req_01kaz3v8q0f1x8t1m5y7c2d9e4",
  }
}

/** A line to try; `$BERTH_URL` and the tokens are what `.berth/env` sets. */
function curl({ method, path, access, example, body, answer, protocol }: Operation): string {
  const address = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => example.params?.[name] ?? name)
  const url = `"$BERTH_URL${address}${example.query ? `?${example.query}` : ""}"`
  const token = access === OPERATOR_SCOPE ? "$BERTH_OPERATOR_TOKEN" : access === "node-assertion" ? "$ASSERTION" : "$BERTH_TOKEN"
  const lines = [
    `curl -sS${method === "get" ? "" : ` -X ${method.toUpperCase()}`}${answer.media && example.query?.includes("follow") ? "N" : ""} ${url}`,
    ...(isScope(access) || access === "node-assertion" ? [`-H "Authorization: Bearer ${token}"`] : []),
    ...(access === "node-assertion" ? ["-H 'Upgrade: websocket' -H 'Connection: Upgrade'"] : []),
    ...(body === undefined || example.body === undefined
      ? []
      : protocol === "oauth"
        ? Object.entries(example.body).map(([name, value]) => `-d ${name}='${value}'`)
        : ["-H 'Content-Type: application/json'", `-d '${JSON.stringify(example.body, null, 2)}'`]),
  ]
  return lines.join(" \\\n  ")
}

type ApiDocument = ReturnType<OpenAPIHono<AppEnv>["getOpenAPI31Document"]>
export type { ApiDocument }

const made = new WeakMap<object, ApiDocument>()

/** The description for the platform at this URL; made once for each app. */
export function apiDocument(app: OpenAPIHono<AppEnv>, url: string): ApiDocument {
  const known = made.get(app)
  if (known) return known
  app.openAPIRegistry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
    description: "An access token (RFC 9068) with the scope that the operation names.",
  })
  app.openAPIRegistry.registerComponent("securitySchemes", "nodeAssertion", {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
    description: "A JWT that the node signed with its own key, valid for a minute at most.",
  })
  for (const message of webhookMessages()) app.openAPIRegistry.registerWebhook(message)
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Berth",
      version: API_VERSION,
      description:
        "Containers on shared hosts, at bare-metal speed, locked down. JSON over HTTPS; times are RFC 3339, durations are seconds, " +
        "sizes are bytes. Errors are problem details (RFC 9457) with a stable `code`. Unknown fields are refused by name.",
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    servers: [{ url }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
  })
  for (const methods of Object.values(document.paths ?? {}))
    for (const { parameters = [] } of Object.values(methods as Record<string, { parameters?: object[] }>))
      for (const parameter of parameters) if ("schema" in parameter) parameter.schema = withoutNull(parameter.schema)
  made.set(app, document)
  return document
}

/** A query parameter is text and never null; a schema that coerces text would take null as well, and so is described so. */
function withoutNull(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.filter((part) => part?.type !== "null").map(withoutNull)
  if (typeof schema !== "object" || schema === null) return schema
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]) => {
      if (key !== "type" || !Array.isArray(value)) return [key, withoutNull(value)]
      const types = value.filter((type) => type !== "null")
      return [key, types.length === 1 ? types[0] : types]
    }),
  )
}
