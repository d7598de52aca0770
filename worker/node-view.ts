/** A node as operators see it: what the directory, its NodeObject and its cell each know of it. */
import type { NodeView } from "../schema/api.ts"
import { knownVulnerabilities } from "../schema/vulnerabilities.ts"
import type { CellRpc } from "../durable/shared/rpc.ts"
import type { NodeRow } from "./directory.ts"
import type { Services } from "./env.ts"

const NOTHING_RESERVED = { runs: 0, cpus: 0, memory_bytes: 0, pids: 0, disk_bytes: 0, devices: [] }
const time = (ms: number) => new Date(ms).toISOString()

/** Views of these nodes, in order. Each cell is asked once, each node for itself. */
export async function nodeViews(services: Services, rows: readonly NodeRow[]): Promise<NodeView[]> {
  const cellIds = [...new Set(rows.map((row) => row.cellId))]
  const listed = await Promise.all(cellIds.map((id) => services.peers.cell(id).listNodes()))
  const reserved = new Map(listed.flat().map((node): [string, NodeView["reserved"]] => [node.node_id, node.reserved]))
  return Promise.all(rows.map((row) => nodeView(services, row, reserved.get(row.id))))
}

type Reserved = Awaited<ReturnType<CellRpc["listNodes"]>>[number]["reserved"]

async function nodeView(services: Services, row: NodeRow, reserved: Reserved | undefined): Promise<NodeView> {
  const status = await services.peers.node(row.id).status()
  return {
    id: row.id,
    cell_id: row.cellId,
    hostname: row.hostname,
    connected: status.connected,
    accepting: status.accepting,
    reason: status.reason,
    conditions: [...status.conditions],
    cordoned: status.cordoned,
    drain: status.drain && {
      since: time(status.drain.since_ms),
      deadline: time(status.drain.deadline_ms),
      runs_at_start: status.drain.runs_at_start,
      runs_left: status.drain.runs_left,
    },
    exclusive_to: status.exclusive_to === null ? null : [...status.exclusive_to],
    enrolled_at: time(row.enrolledAtMs),
    last_seen_at: status.last_seen_ms === null ? null : time(status.last_seen_ms),
    facts: status.facts,
    vulnerabilities: status.facts === null ? [] : knownVulnerabilities(status.facts.versions),
    reserved: reserved ?? NOTHING_RESERVED,
  }
}
