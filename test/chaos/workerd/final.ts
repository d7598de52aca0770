/** How everything stands, asked of the platform as its users and operators would. */
import type { Container, Event } from "../../../schema/api.ts"
import type { TenantId } from "../../../schema/ids.ts"
import { peers } from "../../support/control-plane.ts"
import type { Final, FinalContainer, FinalEvent, History } from "../../support/history.ts"
import type { World } from "./world.ts"

const PAGE = 500

async function all<T>(page: (cursor: string | null) => Promise<{ items: T[]; next_cursor: string | null }>): Promise<T[]> {
  const items: T[] = []
  for (let cursor: string | null = null; ;) {
    const { items: some, next_cursor } = await page(cursor)
    items.push(...some)
    if (next_cursor === null) return items
    cursor = next_cursor
  }
}

const listed = async (tenant: TenantId): Promise<Container[]> => {
  const list = (status: "removed" | null) =>
    all((cursor) => peers.tenant(tenant).listContainers({ cursor, limit: PAGE, labels: [], status }))
  return [...(await list(null)), ...(await list("removed"))]
}

const containerOf = (tenant: TenantId, { id, status, reason, run }: Container): FinalContainer => ({
  id,
  tenant,
  status,
  reason: reason?.code ?? null,
  run: run && { id: run.id, state: run.state },
})

/** Those whose status passes by itself. */
export async function restless(tenant: TenantId): Promise<Container[]> {
  const passing = ["scheduling", "pulling", "starting", "stopping"] as const
  const lists = passing.map((status) =>
    all((cursor) => peers.tenant(tenant).listContainers({ cursor, limit: PAGE, labels: [], status })),
  )
  return (await Promise.all(lists)).flat()
}

const eventOf = (tenant: TenantId, { cursor, time, type, container_id, run_id, data }: Event): FinalEvent => ({
  tenant,
  cursor,
  at_ms: Date.parse(time),
  type,
  container: container_id,
  run: run_id,
  attempt: data.attempt ?? null,
})

/** With what was given up, which the events tell. */
export async function historyOf(world: World): Promise<History> {
  const containers: FinalContainer[] = []
  const events: FinalEvent[] = []
  const entries = [...world.recorder.entries]
  for (const tenant of world.tenants) {
    const found = await listed(tenant)
    containers.push(...found.map((one) => containerOf(tenant, one)))
    const startFirst = new Set(found.filter(({ drain }) => drain === "start_first").map(({ id }) => id))
    const told = await all((after) => peers.tenant(tenant).listEvents({ after, types: [], container: null, limit: PAGE }))
    events.push(...told.map((event) => eventOf(tenant, event)))
    for (const { type, container_id, run_id, data, time } of told) {
      if (container_id === null || run_id === null) continue
      const at_ms = Date.parse(time)
      if (type === "container.draining" && startFirst.has(container_id)) entries.push({ kind: "relieved", run: run_id, at_ms })
      if (type !== "container.lost") continue
      entries.push({
        kind: "orphaned",
        run: run_id,
        container: container_id,
        code: data.reason?.code ?? "",
        at_ms,
      })
    }
  }
  const nodes = (await Promise.all(world.cells.map((cell) => peers.cell(cell).listNodes()))).flat()
  const sum = (of: (reserved: (typeof nodes)[number]["reserved"]) => number) =>
    nodes.reduce((total, { reserved }) => total + of(reserved), 0)
  const connected: Final["connected"][number][] = []
  for (const [node, host] of world.hosts) if (host.up && (await peers.node(node).status()).connected) connected.push(node)
  const reserved = {
    runs: sum((one) => one.runs),
    cpus: sum((one) => one.cpus),
    memory_bytes: sum((one) => one.memory_bytes),
  }
  return { entries, final: { containers, events, reserved, connected } }
}
