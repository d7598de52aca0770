/** Puts what the platform told beside what the kernel showed. Pure. */
import type { Container, Event, NodeView } from "../../schema/api.ts"
import type { TenantId } from "../../schema/ids.ts"
import type { Entry, History } from "./history.ts"

export interface Told {
  readonly tenant: TenantId
  /** Removed ones too. */
  readonly containers: readonly Container[]
  readonly events: readonly Event[]
  readonly nodes: readonly NodeView[]
}

/** `seen`: what was asked, and what lived. */
export function historyOf(seen: readonly Entry[], { tenant, containers, events, nodes }: Told): History {
  const startFirst = new Set(containers.filter(({ drain }) => drain === "start_first").map(({ id }) => id))
  const nodeOf = new Map(seen.flatMap((entry) => (entry.kind === "accepted" ? [[entry.run, entry.node]] : [])))
  const told = events.flatMap(({ type, time, container_id: container, run_id: run, data }): Entry[] => {
    if (run === null || container === null) return []
    const at_ms = Date.parse(time)
    const node = nodeOf.get(run)
    switch (type) {
      case "container.lost":
        return [{ kind: "orphaned", run, container, code: data.reason?.code ?? "", at_ms }]
      case "container.draining":
        return startFirst.has(container) ? [{ kind: "relieved", run, at_ms }] : []
      case "container.running":
        return node ? [{ kind: "reported", run, node, state: "running", at_ms }] : []
      default:
        return []
    }
  })
  return {
    entries: [...seen, ...told],
    final: {
      containers: containers.map(({ id, status, reason, run }) => ({
        id,
        tenant,
        status,
        reason: reason?.code ?? null,
        run: run && { id: run.id, state: run.state },
      })),
      events: events.map(({ cursor, time, type, container_id, run_id, data }) => ({
        tenant,
        cursor,
        at_ms: Date.parse(time),
        type,
        container: container_id,
        run: run_id,
        attempt: data.attempt ?? null,
      })),
      reserved: nodes.reduce(
        (sum, { reserved }) => ({
          runs: sum.runs + reserved.runs,
          cpus: sum.cpus + reserved.cpus,
          memory_bytes: sum.memory_bytes + reserved.memory_bytes,
        }),
        { runs: 0, cpus: 0, memory_bytes: 0 },
      ),
      connected: nodes.filter(({ connected }) => connected).map(({ id }) => id),
    },
  }
}
