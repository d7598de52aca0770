/**
 * The cell's nodes and what is reserved on them, in memory, because a placement looks at many. SQLite is the truth: it is
 * written first, and this is built from it when the object wakes.
 */
import type { NodeId } from "../../schema/ids.ts"
import { shelfOf } from "./devices.ts"
import { bitsOf, type NodeState } from "./node-state.ts"
import type { NodeRow, Reserved } from "./store.ts"

interface Entry extends NodeState {
  ready: boolean
  readonly taken: Set<string>
  readonly used: { runs: number; cpus: number; memory_bytes: number; pids: number; disk_bytes: number }
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
    const { node_id: id, capacity, labels, max_open_files, vulnerable, ready } = row
    const used = known?.used ?? { runs: 0, cpus: 0, memory_bytes: 0, pids: 0, disk_bytes: 0 }
    const offers = new Map(row.profiles.map(({ name, features }) => [name, { features, bits: bitsOf(features) }]))
    const shelf = shelfOf(row.devices)
    const taken = known?.taken ?? new Set<string>()
    const entry = { id, capacity, labels, offers, max_open_files, vulnerable, ready, shelf, taken, used }
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

  /** Devices that are reserved already, when all is read anew. */
  take(id: NodeId, devices: readonly string[]): void {
    for (const name of devices) this.#byId.get(id)?.taken.add(name)
  }

  #book(id: NodeId, what: Reserved, sign: 1 | -1): void {
    const node = this.#byId.get(id)
    if (!node) return
    const { used, taken } = node
    used.runs += sign * what.runs
    used.memory_bytes += sign * what.memory_bytes
    used.pids += sign * what.pids
    used.disk_bytes += sign * what.disk_bytes
    for (const name of what.devices ?? []) {
      if (sign === 1) taken.add(name)
      else taken.delete(name)
    }
    // Rounded each time, so that a million small fractions leave no drift.
    used.cpus = Math.round((used.cpus + sign * what.cpus) * 1000) / 1000
  }
}
