/** What filters and scorers may know of a node: its offer, and what the ledger has reserved of it. */
import type { Profile } from "../../schema/container.ts"
import { type Feature, FEATURES } from "../../schema/features.ts"
import type { NodeId } from "../../schema/ids.ts"
import type { Capacity } from "../../schema/node.ts"
import type { Ask } from "../shared/rpc.ts"
import type { Shelf } from "./devices.ts"

/** What a node can do under one profile; `bits` has one for each of `FEATURES`, so that a filter compares numbers. */
export interface Offer {
  readonly features: readonly Feature[]
  readonly bits: number
}

export interface NodeState {
  readonly id: NodeId
  readonly capacity: Capacity
  readonly labels: Readonly<Record<string, string>>
  readonly offers: ReadonlyMap<Profile, Offer>
  readonly max_open_files: number
  readonly vulnerable: boolean
  readonly ready: boolean
  readonly shelf: Shelf
  /** Names of devices that runs hold; booked by the ledger alone, as `used` is. */
  readonly taken: ReadonlySet<string>
  readonly used: {
    readonly runs: number
    readonly cpus: number
    readonly memory_bytes: number
    readonly pids: number
    readonly disk_bytes: number
  }
}

/** An ask as filters see it. Made once for each decision, which may look at thousands of nodes. */
export interface Wanted extends Ask {
  readonly bits: number
}

export const wantedOf = (ask: Ask): Wanted => ({ ...ask, bits: bitsOf(ask.features) })

export const bitsOf = (features: readonly Feature[]): number =>
  features.reduce((bits, feature) => bits | (1 << FEATURES.indexOf(feature)), 0)
