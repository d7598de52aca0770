/**
 * One cell: serialises placement on its nodes. Every method is one synchronous step between two awaits, so a decision and
 * its booking cannot be interleaved with another's. SQLite first, then memory: if the write throws, memory is still right.
 */
import { DurableObject } from "cloudflare:workers"
import type { CellId, NodeId, RunId, TenantId } from "../../schema/ids.ts"
import migrations from "../../schema/migrations/cell/migrations.js"
import type { Reason } from "../../schema/protocol.ts"
import { migrateOnce, openDatabase } from "../shared/database.ts"
import { type Env, type Peers, peersOf, systemClock } from "../shared/ports.ts"
import type { Ask, CellRpc, Placement } from "../shared/rpc.ts"
import { chooseDevices, keepTaken, NO_DEVICES } from "./devices.ts"
import { FILTERS } from "./filters.ts"
import { CapacityLedger } from "./ledger.ts"
import { type Chain, schedule } from "./schedule.ts"
import { SCORERS } from "./scorers.ts"
import type { NodeState } from "./node-state.ts"
import { CellStore, type NodeRow, type Place, type ReservationRow } from "./store.ts"

type NodeOffer = Parameters<CellRpc["registerNode"]>[1]

const CHAIN: Chain = { filters: FILTERS, scorers: SCORERS }

/** Waiting tenants told of one change of capacity. Whoever still does not fit queues again, so the next change goes on. */
const POKES = 10

export class CellObject extends DurableObject<Env> implements CellRpc {
  readonly #store: CellStore
  readonly #peers: Peers
  #ledger = new CapacityLedger()
  #cellId: CellId | undefined
  /** Where the next search begins; it need not survive. */
  #start = 0
  #poking = false

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    const db = openDatabase(ctx.storage)
    this.#store = new CellStore(db, ctx.storage.sql)
    this.#peers = peersOf(env)
    void ctx.blockConcurrencyWhile(async () => {
      await migrateOnce(db, migrations)
      this.#cellId = this.#store.cellId()
      this.#load()
    })
  }

  async registerNode(cellId: CellId, node: NodeOffer): Promise<void> {
    this.#know(cellId)
    const known = this.#ledger.get(node.node_id)
    const held = known !== undefined && known.taken.size > 0
    const devices = held ? keepTaken(node.devices, this.#store.devicesOf(node.node_id), known.taken) : node.devices
    this.#putNode({ ...node, devices, ready: known?.ready ?? false, reason: null })
  }

  async setNodeReady(nodeId: NodeId, ready: boolean, reason: Reason | null): Promise<void> {
    const node = this.#ledger.get(nodeId)
    if (!node) return
    const was = node.ready
    this.#store.setReady(nodeId, ready, reason)
    this.#ledger.setReady(nodeId, ready)
    if (ready && !was) this.#poke()
  }

  async place(cellId: CellId, asks: Ask[]): Promise<Placement[]> {
    this.#know(cellId)
    const before = this.#store.placesOf(asks.flatMap((ask) => ask.run_ids))
    const booked: ReservationRow[] = []
    const waiting = new Set<TenantId>()
    try {
      const placements = asks.flatMap((ask) => ask.run_ids.map((run_id) => this.#placeOne(run_id, ask, before, booked, waiting)))
      this.#store.reserve(booked)
      this.#store.addWaiting([...waiting], systemClock.now())
      return placements
    } catch (error) {
      // The batch was booked in memory as it went; without its rows that is wrong.
      this.#load()
      throw error
    }
  }

  async release(runIds: RunId[]): Promise<void> {
    const released = this.#store.release(runIds)
    for (const row of released) this.#ledger.credit(row.node_id, { ...row, runs: 1 })
    if (released.length > 0) this.#poke()
  }

  async listNodes() {
    return this.#ledger.nodes.map(({ id, ready, used, taken }) => ({
      node_id: id,
      ready,
      reserved: { ...used, devices: [...taken].toSorted() },
    }))
  }

  async forgetNode(nodeId: NodeId): Promise<void> {
    this.#store.forgetNode(nodeId)
    this.#ledger.forget(nodeId)
  }

  #placeOne(run_id: RunId, ask: Ask, before: Map<RunId, Place>, booked: ReservationRow[], waiting: Set<TenantId>): Placement {
    const already = before.get(run_id)
    if (already !== undefined) return placement(run_id, ask, this.#ledger.get(already.node_id), already)
    const decision = schedule(this.#ledger.nodes, ask, CHAIN, this.#start++)
    if (decision.node === null) {
      waiting.add(ask.tenant_id)
      return { run_id, node_id: null, refused: decision.refused }
    }
    const { node } = decision
    const { cpus, memory_bytes, pids, disk_bytes, accelerators } = ask.resources
    const chosen = accelerators.length === 0 ? NO_DEVICES : chooseDevices(node.shelf, node.taken, accelerators)
    const devices = chosen === undefined || chosen.length === 0 ? null : [...chosen]
    const row = { run_id, node_id: node.id, cpus, memory_bytes, pids, disk_bytes, devices, group: null, anti_affinity: null }
    booked.push(row)
    const place = { node_id: node.id, devices: devices ?? [] }
    before.set(run_id, place) // the same run twice in one batch
    this.#ledger.reserve(node.id, { ...row, runs: 1 })
    return placement(run_id, ask, node, place)
  }

  #putNode(row: NodeRow): void {
    this.#store.putNode(row)
    this.#ledger.put(row)
    if (row.ready) this.#poke()
  }

  /** Tells tenants that wait for capacity. Not awaited by whoever freed it; if the object dies here, tenants ask by themselves. */
  #poke(): void {
    const cellId = this.#cellId
    if (this.#poking || cellId === undefined) return
    this.#poking = true
    const work = async () => {
      // Changes that come together are told once.
      await scheduler.wait(0)
      this.#poking = false
      await Promise.all(this.#store.takeWaiting(POKES).map((tenant) => this.#tell(tenant, cellId)))
    }
    this.ctx.waitUntil(work())
  }

  async #tell(tenant: TenantId, cellId: CellId): Promise<void> {
    try {
      await this.#peers.tenant(tenant).capacityChanged(cellId)
    } catch (error) {
      console.error("a waiting tenant could not be told of new capacity; it will ask again by itself", error)
    }
  }

  #know(cellId: CellId): void {
    if (this.#cellId !== undefined) return
    this.#store.saveCellId(cellId)
    this.#cellId = cellId
  }

  #load(): void {
    const ledger = new CapacityLedger()
    for (const row of this.#store.nodes()) ledger.put(row)
    for (const row of this.#store.reservedByNode()) ledger.reserve(row.node_id, row)
    for (const { node_id, devices } of this.#store.reservedDevices()) ledger.take(node_id, devices ?? [])
    this.#ledger = ledger
  }
}

const placement = (run_id: RunId, { profile }: Ask, node: NodeState | undefined, { node_id, devices }: Place): Placement => ({
  run_id,
  node_id,
  region: node?.labels.region ?? null,
  devices,
  features: node?.offers.get(profile)?.features ?? [],
})
