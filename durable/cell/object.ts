/**
 * One cell: serialises placement on its nodes. Every method is one synchronous step between two awaits, so a decision and
 * its booking cannot be interleaved with another's. SQLite first, then memory: if the write throws, memory is still right.
 */
import { DurableObject } from "cloudflare:workers"
import { type Room, Weights } from "../../schema/api.ts"
import type { CellId, NodeId, RunId, TenantId } from "../../schema/ids.ts"
import migrations from "../../schema/migrations/cell/migrations.js"
import type { Reason } from "../../schema/protocol.ts"
import { migrateOnce, openDatabase } from "../shared/database.ts"
import { type Env, type Peers, peersOf, systemClock } from "../shared/ports.ts"
import type { Ask, CellRpc, Explanation, Placement } from "../shared/rpc.ts"
import { keepTaken } from "./devices.ts"
import { countRefusals, explain } from "./explain.ts"
import { CapacityLedger } from "./ledger.ts"
import { Placing } from "./placing.ts"
import { Refusals } from "./refusals.ts"
import { type Search, searchFor } from "./schedule.ts"
import { type Weighted, weighted } from "./scorers.ts"
import { CellStore, type NodeRow } from "./store.ts"
import { withFailures } from "./track-record.ts"

type NodeOffer = Parameters<CellRpc["registerNode"]>[1]

/** Waiting tenants told of one change of capacity. Whoever still does not fit queues again, so the next change goes on. */
const POKES = 10

export class CellObject extends DurableObject<Env> implements CellRpc {
  readonly #store: CellStore
  readonly #peers: Peers
  readonly #refusals = new Refusals()
  #ledger = new CapacityLedger()
  #cellId: CellId | undefined
  #scorers: readonly Weighted[] = []
  #revision = 0
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
      const identity = this.#store.identity()
      this.#cellId = identity?.cell_id
      this.#revision = identity?.revision ?? 0
      this.#scorers = weighted(identity?.weights ?? Weights.parse({}))
      this.#load()
    })
  }

  async configure(cellId: CellId, { weights, revision }: { weights: Weights; revision: number }): Promise<void> {
    this.#know(cellId)
    if (revision < this.#revision) return
    this.#store.saveWeights(weights, revision)
    this.#revision = revision
    this.#scorers = weighted(weights)
  }

  async registerNode(cellId: CellId, node: NodeOffer): Promise<void> {
    this.#know(cellId)
    const known = this.#ledger.get(node.node_id)
    const held = known !== undefined && known.taken.size > 0
    const devices = held ? keepTaken(node.devices, this.#store.devicesOf(node.node_id), known.taken) : node.devices
    this.#putNode({ ...node, devices, ready: known?.free.ready ?? false, reason: null })
  }

  async setNodeReady(nodeId: NodeId, ready: boolean, reason: Reason | null): Promise<void> {
    const node = this.#ledger.get(nodeId)
    if (!node) return
    const was = node.free.ready
    this.#store.setReady(nodeId, ready, reason)
    this.#ledger.setReady(nodeId, ready)
    this.#refusals.changed(node)
    if (ready && !was) this.#poke()
  }

  async place(cellId: CellId, asks: Ask[]): Promise<Placement[]> {
    this.#know(cellId)
    const batch = new Placing(this.#ledger, this.#store.placesOf(asks.flatMap((ask) => ask.run_ids)), this.#start)
    try {
      const placements = asks.flatMap((ask) => this.#placeAll(ask, batch))
      this.#start = batch.start
      this.#store.reserve(batch.booked)
      this.#store.putTrackRecords(batch.records())
      this.#store.addWaiting([...batch.waiting], systemClock.now())
      return placements
    } catch (error) {
      // The batch was booked in memory as it went; without its rows that is wrong.
      this.#load()
      throw error
    }
  }

  async explain(cellId: CellId, ask: Omit<Ask, "run_ids">): Promise<Explanation> {
    return explain(cellId, this.#ledger.nodes, this.#search(ask))
  }

  async release(runIds: RunId[], faulty: RunId[]): Promise<void> {
    const released = this.#store.release(runIds)
    for (const row of released) {
      const node = this.#ledger.credit(row.node_id, row)
      if (node) this.#refusals.changed(node)
    }
    const atFault = new Set(faulty)
    this.#remember(released.filter((row) => atFault.has(row.run_id)).map((row) => row.node_id))
    if (released.length > 0) this.#poke()
  }

  async room(): Promise<Room> {
    return this.#ledger.room()
  }

  async listNodes() {
    return this.#ledger.nodes.map(({ id, free, used, taken }) => ({
      node_id: id,
      ready: free.ready,
      reserved: { ...used, devices: [...taken].toSorted() },
    }))
  }

  async forgetNode(nodeId: NodeId): Promise<void> {
    this.#store.forgetNode(nodeId)
    this.#ledger.forget(nodeId)
  }

  #placeAll(ask: Ask, batch: Placing): Placement[] {
    const search = this.#search(ask)
    return ask.run_ids.map((run_id) => {
      const place = batch.known(run_id, ask) ?? (this.#refusals.get(search) ? undefined : batch.place(run_id, search))
      if (place !== undefined) return place
      batch.waiting.add(ask.tenant_id)
      return { run_id, node_id: null, refused: this.#refused(search) }
    })
  }

  #refused(search: Search) {
    const standing = this.#refusals.get(search)
    if (standing !== undefined) return standing
    const refused = countRefusals(this.#ledger.nodes, search)
    this.#refusals.add(search, refused)
    return refused
  }

  #search(ask: Omit<Ask, "run_ids">): Search {
    const { groups, images } = this.#ledger
    return searchFor(ask, { groups, images, now_ms: systemClock.now() }, this.#scorers)
  }

  #remember(failed: readonly NodeId[]): void {
    const now = systemClock.now()
    const records = [...Map.groupBy(failed, (id) => id)].flatMap(([node_id, all]) => {
      const node = this.#ledger.get(node_id)
      return node ? [{ node_id, ...withFailures(node.record, all.length, now) }] : []
    })
    this.#store.putTrackRecords(records)
    for (const { node_id, ...record } of records) this.#ledger.setRecord(node_id, record)
  }

  #putNode(row: NodeRow): void {
    this.#store.putNode(row)
    this.#refusals.changed(this.#ledger.put(row))
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
    for (const row of this.#store.reservedByNode()) ledger.reserveAll(row.node_id, row.runs, row)
    for (const { node_id, devices } of this.#store.reservedDevices()) ledger.take(node_id, devices ?? [])
    for (const row of this.#store.memberships()) ledger.join(row.node_id, row)
    for (const { node_id, ...record } of this.#store.trackRecords()) ledger.setRecord(node_id, record)
    this.#ledger = ledger
    this.#refusals.clear()
  }
}
