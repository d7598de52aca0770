/**
 * The cell's nodes and what is reserved on them, in memory, because a placement looks at many. SQLite is the truth: it is
 * written first, and this is built from it when the object wakes.
 */
import type { NodeId } from "../../schema/ids.ts"
import type { NodeState } from "./node-state.ts"
import type { NodeRow, Reserved } from "./store.ts"

interface Entry extends NodeState {
  hostname: string
  capacity: NodeState["capacity"]
  labels: NodeState["labels"]
  profiles: NodeState["profiles"]
  ready: boolean
  used: { runs: number; cpus: number; memory_bytes: number; pids: number }
}

export class CapacityLedger {
  readonly #byId = new Map<NodeId, Entry>()
  #nodes: Entry[] = []

  get nodes(): readonly NodeState[] {
    return this.#nodes
  }

  get(id: NodeId): NodeState | undefined {
    return this.#byId.get(id)
  }

  put(row: NodeRow): void {
    const known = this.#byId.get(row.node_id)
    const { node_id: id, hostname, capacity, labels, ready } = row
    const used = known?.used ?? { runs: 0, cpus: 0, memory_bytes: 0, pids: 0 }
    const entry = { id, hostname, capacity, labels, profiles: new Set(row.profiles), ready, used }
    this.#byId.set(id, entry)
    if (known) this.#nodes[this.#nodes.indexOf(known)] = entry
    else this.#nodes.push(entry)
  }

  setReady(id: NodeId, ready: boolean): void {
    const node = this.#byId.get(id)
    if (node) node.ready = ready
  }

  forget(id: NodeId): void {
    this.#byId.delete(id)
    this.#nodes = this.#nodes.filter((node) => node.id !== id)
  }

  reserve(id: NodeId, what: Reserved): void {
    this.#book(id, what, 1)
  }

  credit(id: NodeId, what: Reserved): void {
    this.#book(id, what, -1)
  }

  #book(id: NodeId, what: Reserved, sign: 1 | -1): void {
    const used = this.#byId.get(id)?.used
    if (!used) return
    used.runs += sign * what.runs
    used.memory_bytes += sign * what.memory_bytes
    used.pids += sign * what.pids
    // Rounded each time, so that a million small fractions leave no drift.
    used.cpus = Math.round((used.cpus + sign * what.cpus) * 1000) / 1000
  }
}
