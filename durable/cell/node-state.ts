/** What filters and scorers may know of a node: its offer, what the ledger has reserved of it, and how runs fared there. */
import type { Profile } from "../../schema/container.ts"
import { type Feature, FEATURES } from "../../schema/features.ts"
import type { NodeId, TenantId } from "../../schema/ids.ts"
import type { Capacity } from "../../schema/node.ts"
import type { Ask } from "../shared/rpc.ts"
import { fewestDevices, type Shelf } from "./devices.ts"
import type { Groups } from "./groups.ts"
import type { Images } from "./images.ts"

/** What a node can do under one profile; `bits` has one for each of `FEATURES`, so that a filter compares numbers. */
export interface Offer {
  readonly features: readonly Feature[]
  readonly bits: number
}

/** What nodes have in common that only a new registration changes: a filter looks at it once for all of them. */
export interface NodeKind {
  readonly labels: Readonly<Record<string, string>>
  readonly offers: ReadonlyMap<Profile, Offer>
  readonly max_open_files: number
  readonly vulnerable: boolean
  /** Null: every tenant's. */
  readonly exclusive_to: ReadonlySet<TenantId> | null
  /** Such as `nvidia.com/gpu`. */
  readonly devices: ReadonlySet<string>
}

/** What is free on a node; of several nodes, no less than any of them has free. */
export interface Free {
  /** Whether any of it may be given to new runs now. */
  readonly ready: boolean
  readonly runs: number
  /** Thousandths of a processor: sums of fractions must not trip over binary rounding. */
  readonly millicpus: number
  readonly memory_bytes: number
  readonly pids: number
  readonly disk_bytes: number
  /** Devices of any kind that are healthy and that no run holds. */
  readonly devices: number
}

export interface NodeState {
  readonly id: NodeId
  /** `hashOf` its id. */
  readonly seed: number
  readonly kind: NodeKind
  readonly capacity: Capacity
  readonly shelf: Shelf
  /** Names of devices that runs hold; booked by the ledger alone, as `used` and `free` are. */
  readonly taken: ReadonlySet<string>
  readonly used: {
    readonly runs: number
    readonly cpus: number
    readonly memory_bytes: number
    readonly pids: number
    readonly disk_bytes: number
  }
  readonly free: Free
  readonly record: TrackRecord
}

/** What is remembered of how runs fared on a node; it outlives them. */
export interface TrackRecord {
  /** `hashOf` the images that it has run, latest last. */
  readonly images: readonly number[]
  /** Runs that failed by no fault of their own, as they counted at `failed_at_ms`. */
  readonly failures: number
  readonly failed_at_ms: number
}

/** An ask as filters and scorers see it. Made once for all runs of the ask. */
export interface Wanted extends Omit<Ask, "run_ids"> {
  readonly bits: number
  readonly need: Omit<Free, "ready">
  readonly image_hash: number
  /** Keys of `groups`: its own, and those that it must not share a node with. */
  readonly group: string | null
  readonly averse: readonly string[]
  readonly groups: Groups
  readonly images: Images
  readonly now_ms: number
}

export const milli = (cpus: number): number => Math.round(cpus * 1000)

/** What of the whole cell counts for one node. */
export type Around = Pick<Wanted, "groups" | "images" | "now_ms">

export const wantedOf = (ask: Omit<Ask, "run_ids">, around: Around): Wanted => ({
  ...ask,
  bits: bitsOf(ask.features),
  need: {
    runs: 1,
    millicpus: milli(ask.resources.cpus),
    memory_bytes: ask.resources.memory_bytes,
    pids: ask.resources.pids,
    disk_bytes: ask.resources.disk_bytes,
    devices: fewestDevices(ask.resources.accelerators),
  },
  image_hash: hashOf(ask.image),
  group: ask.placement.group === undefined ? null : groupKey(ask.tenant_id, ask.placement.group),
  averse: ask.placement.anti_affinity.map((name) => groupKey(ask.tenant_id, name)),
  ...around,
})

/** A group is its tenant's own: another's of the same name is another. */
const groupKey = (tenant: TenantId, name: string) => `${tenant}/${name}`

export const bitsOf = (features: readonly Feature[]): number =>
  features.reduce((bits, feature) => bits | (1 << FEATURES.indexOf(feature)), 0)

/** FNV-1a, 32 bits: the same everywhere and for good, since hashes of images are stored. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}
