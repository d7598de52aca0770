/** Calls the real worker, and makes the tenants that tests are about. */
import { exports } from "cloudflare:workers"
import type { z } from "zod"
import { Container, Problem, Tenant } from "../../schema/api.ts"
import type { TenantId } from "../../schema/ids.ts"
import { TEST_ISSUER } from "./signing-key.ts"
import { aToken } from "./tokens.ts"

export interface CallOptions {
  readonly token?: string
  /** Sent as JSON, unless it is text: then as it is. */
  readonly body?: unknown
  readonly headers?: Record<string, string>
  /** A body that is sent as it comes, without a length. */
  readonly stream?: ReadableStream<Uint8Array>
}

export async function call(method: string, path: string, options: CallOptions = {}): Promise<Response> {
  const { token, body, headers, stream } = options
  return exports.default.fetch(
    new Request(`${TEST_ISSUER}${path}`, {
      method,
      redirect: "manual",
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      ...(stream && { body: stream }),
    }),
  )
}

export async function problemOf(response: Response): Promise<z.infer<typeof Problem>> {
  const problem = Problem.parse(await response.json())
  if (problem.status !== response.status) throw new Error(`the problem says ${problem.status}, the answer ${response.status}`)
  return problem
}

export interface TestTenant {
  readonly id: TenantId
  readonly token: string
}

/** A new tenant, made through the API, with a token for everything. */
export async function aTenant(quota: object = {}): Promise<TestTenant> {
  const name = `t-${crypto.randomUUID()}`
  const answer = await call("POST", "/v1/admin/tenants", { token: await aToken(), body: { name, quota } })
  if (answer.status !== 201) throw new Error(`no tenant was made: ${await answer.text()}`)
  const { id } = Tenant.parse(await answer.json())
  return { id, token: await aToken({ tenant: id }) }
}

/** A container that was only created: it needs no node. */
export async function aCreatedContainer(token: string, fields: object = {}): Promise<Container> {
  const body = { image: "localhost/hello:latest", start: false, ...fields }
  const answer = await call("POST", "/v1/containers", { token, body })
  if (answer.status !== 201) throw new Error(`no container was made: ${await answer.text()}`)
  return Container.parse(await answer.json())
}
