/** Berth as its tenants meet it: the whole platform, and one `POST /v1/containers` that is answered when the container runs. */
import type { Client } from "../../../bin/client.ts"
import { PLATFORM_STEPS } from "../../../durable/tenant/observe.ts"
import type { BatchAnswer, Container } from "../../../schema/api.ts"
import type { ContainerCreate } from "../../../schema/container.ts"
import type { Timings } from "../../../schema/protocol.ts"
import type { Contender } from "../harness/bench.ts"
import { median } from "../harness/stats.ts"
import { SLEEP } from "./workload.ts"

const WAIT_SECONDS = 120

type Asked = Pick<ContainerCreate, "image" | "command"> & { resources?: { cpus: number } }
const ASKED: Asked = { image: "localhost/hello", command: SLEEP }

/** The create call until its answer says `running`, as `docker run -d` is answered too; with each run's own account of its steps kept for `trails`. */
export function berthCreate(tenant: Client, series: { create: string; host: string }, trails: Timings[]): Contender {
  const made: string[] = []
  let warm = false
  return {
    name: "POST /v1/containers, Prefer: wait",
    once: async () => {
      const from = performance.now()
      const running = await createAndWait(tenant, ASKED, made)
      const ms = performance.now() - from
      const timings = running.run?.timings ?? {}
      if (warm) trails.push(timings)
      warm = true
      return { [series.create]: ms, [series.host]: hostPart(timings) }
    },
    tidy: () => removeAll(tenant, made),
  }
}

/** `count` containers asked for at once, each with a limit of `cpus` processors; until the last of them runs. */
export function berthBurst(tenant: Client, series: string, count: number, cpus: number): Contender {
  const made: string[] = []
  const asked = { ...ASKED, resources: { cpus } }
  return {
    name: `${count} POST /v1/containers, Prefer: wait, at once, ${cpus} cpus each`,
    once: async () => {
      const from = performance.now()
      await Promise.all(Array.from({ length: count }, () => createAndWait(tenant, asked, made)))
      return { [series]: performance.now() - from }
    },
    tidy: () => removeAll(tenant, made),
  }
}

/** `count` containers of one spec asked for by one call; until the last of them runs. */
export function berthReplicas(tenant: Client, series: string, count: number): Contender {
  const made: string[] = []
  return {
    name: `POST /v1/containers:batch of ${count}`,
    once: async () => {
      const from = performance.now()
      const { items } = await tenant.post<BatchAnswer>("/v1/containers:batch", { count, container: ASKED })
      made.push(...items.map(({ id }) => id))
      const settled = await Promise.all(
        made.map((id) => tenant.get<Container>(`/v1/containers/${id}/wait?status=running&timeout=${WAIT_SECONDS}`)),
      )
      const ms = performance.now() - from
      const missing = settled.find(({ status }) => status !== "running")
      if (missing) throw new Error(`${missing.id} is ${missing.status}: ${missing.reason?.message ?? "no reason given"}`)
      return { [series]: ms }
    },
    tidy: () => removeAll(tenant, made),
  }
}

/** From the assignment on the node to the running process: every step that is not the control plane's. */
export const hostPart = (timings: Timings): number =>
  Object.entries(timings).reduce((sum, [step, ms]) => (PLATFORM_STEPS.includes(step) ? sum : sum + ms), 0)

/** The median of each step over the runs that had it, in the order in which they came up. */
export function typicalTrail(trails: readonly Timings[]): Record<string, number> {
  const steps = new Set(trails.flatMap((timings) => Object.keys(timings)))
  return Object.fromEntries([...steps].map((step) => [step, median(trails.flatMap((timings) => timings[step] ?? []))]))
}

async function createAndWait(tenant: Client, asked: Asked, made: string[]): Promise<Container> {
  const container = await tenant.post<Container>("/v1/containers", asked, { prefer: `wait=${WAIT_SECONDS}` })
  made.push(container.id)
  if (container.status !== "running")
    throw new Error(`${container.id} is ${container.status}: ${container.reason?.message ?? "no reason given"}`)
  return container
}

async function removeAll(tenant: Client, made: string[]): Promise<void> {
  await Promise.all(
    made.splice(0).map(async (id) => {
      await tenant.delete(`/v1/containers/${id}?force=true`)
      await tenant.get(`/v1/containers/${id}/wait?status=removed&timeout=${WAIT_SECONDS}`)
    }),
  )
}
