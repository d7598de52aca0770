/** One batch being placed: booked in memory as it goes, so that a run counts what the runs before it took. SQL comes after. */
import type { NodeId, RunId, TenantId } from "../../schema/ids.ts"
import type { Ask, Placement } from "../shared/rpc.ts"
import { chooseDevices, NO_DEVICES } from "./devices.ts"
import type { CapacityLedger } from "./ledger.ts"
import type { NodeState, TrackRecord } from "./node-state.ts"
import { schedule, type Search } from "./schedule.ts"
import type { Place, ReservationRow } from "./store.ts"
import { withImage } from "./track-record.ts"

export class Placing {
  readonly booked: ReservationRow[] = []
  /** Tenants of runs that did not fit. */
  readonly waiting = new Set<TenantId>()
  readonly #ledger: CapacityLedger
  readonly #places: Map<RunId, Place>
  readonly #records = new Map<NodeId, TrackRecord>()
  #start: number

  /** `places`: of those runs that are placed already. */
  constructor(ledger: CapacityLedger, places: Map<RunId, Place>, start: number) {
    this.#ledger = ledger
    this.#places = places
    this.#start = start
  }

  get start(): number {
    return this.#start
  }

  /** Where the run is already. */
  known(run_id: RunId, ask: Ask): Placement | undefined {
    const place = this.#places.get(run_id)
    return place && placement(run_id, ask, this.#ledger.get(place.node_id), place)
  }

  /** Undefined when no node fits. */
  place(run_id: RunId, search: Search): Placement | undefined {
    const { node, blocks } = schedule(this.#ledger.blocks, search, run_id, this.#start)
    this.#start += blocks
    if (node === undefined) return undefined
    const { ask } = search
    const { cpus, memory_bytes, pids, disk_bytes, accelerators } = ask.resources
    const chosen = accelerators.length === 0 ? NO_DEVICES : (chooseDevices(node.shelf, node.taken, accelerators) ?? NO_DEVICES)
    const devices = chosen.length === 0 ? null : [...chosen]
    const anti_affinity = ask.averse.length === 0 ? null : [...ask.averse]
    const row = { run_id, node_id: node.id, cpus, memory_bytes, pids, disk_bytes, devices, group: ask.group, anti_affinity }
    this.booked.push(row)
    this.#ledger.reserve(node.id, row)
    this.#recordImage(node, ask.image_hash)
    const place = { node_id: node.id, devices: devices ?? [] }
    this.#places.set(run_id, place) // the same run twice in one batch
    return placement(run_id, ask, node, place)
  }

  /** Those that have changed. */
  records(): (TrackRecord & { node_id: NodeId })[] {
    return [...this.#records].map(([node_id, record]) => ({ node_id, ...record }))
  }

  #recordImage(node: NodeState, image: number): void {
    const record = withImage(node.record, image)
    if (record === node.record) return
    this.#records.set(node.id, record)
    this.#ledger.setRecord(node.id, record)
  }
}

const placement = (
  run_id: RunId,
  { profile }: Pick<Ask, "profile">,
  node: NodeState | undefined,
  { node_id, devices }: Place,
): Placement => ({
  run_id,
  node_id,
  region: node?.kind.labels.region ?? null,
  devices,
  features: node?.kind.offers.get(profile)?.features ?? [],
})
