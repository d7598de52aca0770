/**
 * The cell's nodes and what is reserved on them, in memory, because a placement looks at many. SQLite is the truth: it is
 * written first, and this is built from it when the object wakes.
 */
import type { Room } from "../../schema/api.ts"
import type { NodeId } from "../../schema/ids.ts"
import { type Block, Blocks } from "./blocks.ts"
import { freeDevices, shelfOf } from "./devices.ts"
import { Groups, type Membership } from "./groups.ts"
import { Images } from "./images.ts"
import { bitsOf, type Free, hashOf, milli, type NodeKind, type NodeState, type TrackRecord } from "./node-state.ts"
import type { NodeRow, Reserved } from "./store.ts"
import { NO_RECORD } from "./track-record.ts"

type Changing<T> = { -readonly [K in keyof T]: T[K] }

/** One object for as long as the node is known: groups and blocks hold on to it. */
interface Entry extends Changing<Omit<NodeState, "taken" | "used" | "free">> {
  readonly taken: Set<string>
  readonly used: Changing<NodeState["used"]>
  readonly free: Changing<Free>
}

export class CapacityLedger {
  readonly #byId = new Map<NodeId, Entry>()
  readonly #kinds = new Map<string, { readonly kind: NodeKind; nodes: number }>()
  readonly #keyOf = new Map<NodeState, string>()
  readonly #blocks = new Blocks()
  readonly groups = new Groups()
  readonly images = new Images()

  get nodes(): readonly NodeState[] {
    return [...this.#byId.values()]
  }

  get blocks(): readonly Block[] {
    return this.#blocks.all
  }

  get(id: NodeId): NodeState | undefined {
    return this.#byId.get(id)
  }

  put(row: NodeRow): NodeState {
    const known = this.#byId.get(row.node_id)
    const entry = known ?? newEntry(row)
    if (known) this.#blocks.remove(known)
    const { labels } = entry.kind
    entry.kind = this.#kindOf(entry, row)
    entry.capacity = row.capacity
    entry.free.ready = row.ready
    entry.shelf = shelfOf(row.devices)
    count(entry)
    if (known && !sameLabels(labels, entry.kind.labels)) this.groups.relabelled()
    this.#byId.set(row.node_id, entry)
    this.#blocks.add(entry)
    return entry
  }

  setReady(id: NodeId, ready: boolean): void {
    const node = this.#byId.get(id)
    if (!node) return
    node.free.ready = ready
    this.#blocks.raised(node)
  }

  setRecord(id: NodeId, record: TrackRecord): void {
    const node = this.#byId.get(id)
    if (!node) return
    this.images.replace(node.record, record)
    node.record = record
  }

  forget(id: NodeId): void {
    const node = this.#byId.get(id)
    if (!node) return
    this.#byId.delete(id)
    this.#blocks.remove(node)
    this.groups.forget(node)
    this.images.replace(node.record, NO_RECORD)
    this.#leaveKind(node)
  }

  /** A run, and what it is to others. */
  reserve(id: NodeId, what: Reserved & Membership): void {
    const node = this.#book(id, what, 1)
    if (node) this.groups.book(node, what, 1)
  }

  credit(id: NodeId, what: Reserved & Membership): NodeState | undefined {
    const node = this.#book(id, what, -1)
    if (node) this.groups.book(node, what, -1)
    return node
  }

  /** So many runs at once, when all is read anew; `take` and `join` add what is told of single ones. */
  reserveAll(id: NodeId, runs: number, what: Omit<Reserved, "devices">): void {
    this.#book(id, { ...what, devices: null }, runs)
  }

  /** Devices that are reserved already, when all is read anew. */
  take(id: NodeId, devices: readonly string[]): void {
    const node = this.#byId.get(id)
    if (!node) return
    for (const name of devices) node.taken.add(name)
    count(node)
  }

  join(id: NodeId, membership: Membership): void {
    const node = this.#byId.get(id)
    if (node) this.groups.book(node, membership, 1)
  }

  /** Totals of the nodes that are ready; `runs` and `nodes` are of all. */
  room(): Room {
    const room = { nodes: 0, ready_nodes: 0, runs: 0, cpus: 0, free_cpus: 0, memory_bytes: 0, free_memory_bytes: 0 }
    for (const { capacity, used, free } of this.#byId.values()) {
      room.nodes++
      room.runs += used.runs
      if (!free.ready) continue
      room.ready_nodes++
      room.cpus += capacity.cpus
      room.free_cpus += Math.max(0, free.millicpus) / 1000
      room.memory_bytes += capacity.memory_bytes
      room.free_memory_bytes += Math.max(0, free.memory_bytes)
    }
    return room
  }

  /** `runs`: below 0 they are given back. `what` of all of them is booked once. */
  #book(id: NodeId, what: Reserved, runs: number): NodeState | undefined {
    const node = this.#byId.get(id)
    if (!node) return undefined
    const { used, taken } = node
    const sign = Math.sign(runs)
    used.runs += runs
    used.memory_bytes += sign * what.memory_bytes
    used.pids += sign * what.pids
    used.disk_bytes += sign * what.disk_bytes
    // Rounded each time, so that a million small fractions leave no drift.
    used.cpus = Math.round((used.cpus + sign * what.cpus) * 1000) / 1000
    for (const name of what.devices ?? []) {
      if (sign === 1) taken.add(name)
      else taken.delete(name)
    }
    count(node)
    if (sign === -1) this.#blocks.raised(node)
    return node
  }

  #kindOf(entry: Entry, row: NodeRow): NodeKind {
    const kinds = [...new Set(row.devices.map(({ name }) => name.slice(0, name.indexOf("="))))].toSorted()
    const key = JSON.stringify([
      Object.entries(row.labels).toSorted(([a], [b]) => (a < b ? -1 : 1)),
      row.profiles.map(({ name, features }) => [name, bitsOf(features)]).toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1)),
      row.max_open_files,
      row.vulnerable,
      row.exclusive_to && row.exclusive_to.toSorted(),
      kinds,
    ])
    if (this.#keyOf.get(entry) === key) return entry.kind
    this.#leaveKind(entry)
    const known = this.#kinds.get(key) ?? { kind: newKind(row, kinds), nodes: 0 }
    known.nodes++
    this.#kinds.set(key, known)
    this.#keyOf.set(entry, key)
    return known.kind
  }

  #leaveKind(node: NodeState): void {
    const key = this.#keyOf.get(node)
    if (key === undefined) return
    this.#keyOf.delete(node)
    const kind = this.#kinds.get(key)
    if (kind && --kind.nodes === 0) this.#kinds.delete(key)
  }
}

const newEntry = (row: NodeRow): Entry => ({
  id: row.node_id,
  seed: hashOf(row.node_id),
  kind: newKind(row, []),
  capacity: row.capacity,
  shelf: shelfOf([]),
  taken: new Set(),
  used: { runs: 0, cpus: 0, memory_bytes: 0, pids: 0, disk_bytes: 0 },
  free: { ready: false, runs: 0, millicpus: 0, memory_bytes: 0, pids: 0, disk_bytes: 0, devices: 0 },
  record: NO_RECORD,
})

const newKind = (row: NodeRow, devices: readonly string[]): NodeKind => ({
  labels: row.labels,
  offers: new Map(row.profiles.map(({ name, features }) => [name, { features, bits: bitsOf(features) }])),
  max_open_files: row.max_open_files,
  vulnerable: row.vulnerable,
  exclusive_to: row.exclusive_to && new Set(row.exclusive_to),
  devices: new Set(devices),
})

/** What is free follows from what is used. */
function count({ free, used, capacity, shelf, taken }: Entry): void {
  free.runs = capacity.runs - used.runs
  free.millicpus = milli(capacity.cpus) - milli(used.cpus)
  free.memory_bytes = capacity.memory_bytes - used.memory_bytes
  free.pids = capacity.pids - used.pids
  free.disk_bytes = capacity.disk_bytes - used.disk_bytes
  free.devices = shelf.byName.size === 0 ? 0 : freeDevices(shelf, taken)
}

const sameLabels = (a: NodeKind["labels"], b: NodeKind["labels"]) =>
  Object.keys(a).length === Object.keys(b).length && Object.entries(a).every(([key, value]) => b[key] === value)
