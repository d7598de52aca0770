/** The whole platform for one test file, in folders and on ports of its own, spoken to over HTTP as a tenant does. */
import { rmSync } from "node:fs"
import type { z } from "zod"
import { startPlatform } from "../../bin/platform.ts"
import type { Platform, PlatformOptions } from "../../bin/platform.ts"
import { Container, Event, Problem } from "../../schema/api.ts"
import type { Tenant } from "../../schema/api.ts"
import { MIB } from "../../schema/container.ts"
import type { ContainerCreate } from "../../schema/container.ts"
import type { TenantId } from "../../schema/ids.ts"
import type { Status } from "../../schema/lifecycle.ts"
import { temporaryFolder } from "./images.ts"

/** Little enough that a file's tests fit on a small machine at once; what a test says itself goes first. */
const SMALL = { cpus: 0.25, memory_bytes: 64 * MIB, pids: 64 }

export interface CallOptions {
  /** Sent as JSON, unless it is text: then as it is. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export type Wish = Partial<z.input<typeof ContainerCreate>>

export interface TestPlatform {
  readonly platform: Platform
  readonly state: string
  /** Another tenant, with a token for everything. */
  tenant(name: string): Promise<TestTenant & { readonly id: TenantId }>
  /** Drains and ends it; a folder that nobody named goes too. */
  stop(): Promise<void>
}

/** One tenant's way through the API. */
export interface TestTenant {
  call(method: string, path: string, options?: CallOptions): Promise<Response>
  create(wish: Wish): Promise<Container>
  /** Resolves when the container has the status; fails with what it is instead. */
  reaches(id: string, status: Status, timeoutSeconds?: number): Promise<Container>
  /** Creates and waits for the end; what is left of it is removed by `stop`. */
  through(wish: Wish, timeoutSeconds?: number): Promise<Container>
  act(id: string, verb: string, body?: object): Promise<Container>
  log(id: string, query?: string): Promise<string>
  events(query: string): Promise<Event[]>
  /** Removes at once and waits until nothing is left. */
  remove(id: string): Promise<void>
}

export async function openPlatform(options: Partial<PlatformOptions> = {}): Promise<TestPlatform> {
  const state = options.state ?? temporaryFolder("platform")
  // One self-test is enough for most; a file that needs both profiles says so.
  const bridgeArgs = ["--profiles", "hardened", ...(options.bridgeArgs ?? [])]
  const platform = await startPlatform({ port: 0, runtime: "crun", ...options, bridgeArgs, state })
  return {
    platform,
    state,
    tenant: async (name) => {
      const { id } = await platform.operator.post<Tenant>("/v1/admin/tenants", { name })
      const { access_token } = await platform.operator.post<{ access_token: string }>(`/v1/admin/tenants/${id}/tokens`, {})
      return { ...tenantOf(platform.url, access_token), id }
    },
    stop: async () => {
      await platform.stop("drain")
      if (options.state === undefined) rmSync(state, { recursive: true, force: true })
    },
  }
}

/** The caller behind a token; an empty one sends none. */
export function tenantOf(url: string, token: string): TestTenant {
  const call = (method: string, path: string, { body, headers }: CallOptions = {}) =>
    fetch(url + path, {
      method,
      headers: {
        ...(token !== "" && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    })

  const tenant: TestTenant = {
    call,
    create: async (wish) => await container(await call("POST", "/v1/containers", { body: { resources: SMALL, ...wish } })),
    reaches: async (id, status, timeoutSeconds = 30) =>
      await container(await call("GET", `/v1/containers/${id}/wait?status=${status}&timeout=${timeoutSeconds}`)),
    through: async (wish, timeoutSeconds) => await tenant.reaches((await tenant.create(wish)).id, "exited", timeoutSeconds),
    act: async (id, verb, body) =>
      await container(await call("POST", `/v1/containers/${id}/${verb}`, body === undefined ? {} : { body })),
    log: async (id, query = "") => await good(await call("GET", `/v1/containers/${id}/logs${query}`)),
    events: async (query) => {
      const page = JSON.parse(await good(await call("GET", `/v1/events?${query}`))) as { items: unknown[] }
      return page.items.map((item) => Event.parse(item))
    },
    remove: async (id) => {
      await good(await call("DELETE", `/v1/containers/${id}?force=true`))
      await tenant.reaches(id, "removed")
    },
  }
  return tenant
}

const container = async (response: Response) => Container.parse(JSON.parse(await good(response)))

async function good(response: Response): Promise<string> {
  const text = await response.text()
  if (!response.ok) throw new Error(`${response.status} from ${response.url}: ${text}`)
  return text
}

/** The problem that an answer tells; it must say the answer's own status. */
export async function problemOf(response: Response): Promise<z.infer<typeof Problem>> {
  const problem = Problem.parse(await response.json())
  if (problem.status !== response.status) throw new Error(`the problem says ${problem.status}, the answer ${response.status}`)
  return problem
}
