/**
 * What a chaos test records while it runs, for `history-check.ts` to judge: what tenants were answered, what cells booked, what
 * really ran on hosts, and at last how everything stands. The recorder sees all of it by one clock, whatever clocks of nodes say.
 *
 * An entry says what its observer saw, never what it concludes from it: `started` is a process on a host, not a report of one.
 */
import type { EventType } from "../../schema/api.ts"
import type { CellId, ContainerId, NodeId, RunId, TenantId } from "../../schema/ids.ts"
import type { Action as AnyAction, RunState, Status } from "../../schema/lifecycle.ts"

export interface Amount {
  readonly cpus: number
  readonly memory_bytes: number
}

export type Action = Exclude<AnyAction, "pause" | "unpause">

export type Happening =
  /** A create was answered: once for each answer, so that a repeat of the key shows. A batch answers once for each container. */
  | {
      readonly kind: "asked"
      readonly tenant: TenantId
      /** The idempotency key; of a batch, with the container's place in it. */
      readonly key: string
      readonly container: ContainerId
      readonly start: boolean
      readonly restart: "no" | "on-failure" | "always"
      readonly remove_on_exit: boolean
      readonly asks: Amount
    }
  /** An action was asked for the first time: from here on it may have happened. */
  | { readonly kind: "called"; readonly container: ContainerId; readonly action: Action }
  /** An action was answered with success. One whose answer was lost is repeated under its key until it is. */
  | { readonly kind: "acted"; readonly container: ContainerId; readonly action: Action }
  | { readonly kind: "quota"; readonly tenant: TenantId; readonly containers: number; readonly limit: Amount }
  /** What the tenant's object counts against the quota, looked at between two of its transactions. */
  | { readonly kind: "used"; readonly tenant: TenantId; readonly containers: number; readonly amount: Amount }
  | { readonly kind: "capacity"; readonly node: NodeId; readonly runs: number; readonly offers: Amount }
  /** A cell booked a run that it had not booked before. */
  | { readonly kind: "reserved"; readonly run: RunId; readonly cell: CellId; readonly node: NodeId; readonly amount: Amount }
  /** A cell gave a booking back; a release that found nothing is no entry. */
  | { readonly kind: "credited"; readonly run: RunId; readonly cell: CellId }
  /** A host took a run into its journal. */
  | { readonly kind: "accepted"; readonly run: RunId; readonly container: ContainerId; readonly node: NodeId }
  /** A process of the run began on the host. */
  | {
      readonly kind: "started"
      readonly run: RunId
      readonly container: ContainerId
      readonly tenant: TenantId
      readonly node: NodeId
    }
  /** That process is gone. */
  | { readonly kind: "exited"; readonly run: RunId; readonly node: NodeId }
  /** Nothing of the run is left on the host. */
  | { readonly kind: "destroyed"; readonly run: RunId; readonly node: NodeId }
  /** The tenant's object stored a node's word about a run. */
  | { readonly kind: "reported"; readonly run: RunId; readonly node: NodeId; readonly state: RunState }
  /** The platform gave the run up. `code` is the reason's: node_lost, node_forgotten, deadline_exceeded. */
  | { readonly kind: "orphaned"; readonly run: RunId; readonly container: ContainerId; readonly code: string }
  /** Its node is being emptied, and its container has `start_first`: the next run may start beside it. */
  | { readonly kind: "relieved"; readonly run: RunId }

/** `at_ms` by the recorder's clock. */
export type Entry = Happening & { readonly at_ms: number }

export interface FinalContainer {
  readonly id: ContainerId
  readonly tenant: TenantId
  readonly status: Status
  readonly reason: string | null
  /** The latest run, and whether it holds or may hold a node. */
  readonly run: { readonly id: RunId; readonly state: RunState } | null
}

export interface FinalEvent {
  readonly tenant: TenantId
  readonly cursor: string
  readonly at_ms: number
  readonly type: EventType
  readonly container: ContainerId | null
  readonly run: RunId | null
  readonly attempt: number | null
}

/** How everything stands once nothing more happens by itself. */
export interface Final {
  /** All of them, removed ones too while they are kept. */
  readonly containers: readonly FinalContainer[]
  /** In the order in which each tenant's list gives them. */
  readonly events: readonly FinalEvent[]
  /** What all cells together count as reserved. */
  readonly reserved: Amount & { readonly runs: number }
  /** Nodes that are connected and may be expected to have done what they were told. */
  readonly connected: readonly NodeId[]
}

export interface History {
  readonly entries: readonly Entry[]
  readonly final: Final
}

export class Recorder {
  readonly entries: Entry[] = []
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  add(happening: Happening): void {
    this.entries.push({ ...happening, at_ms: this.#now() })
  }
}

export type Of<K extends Entry["kind"]> = Extract<Entry, { kind: K }>

/** In the order in which they were recorded. */
export const all = <K extends Entry["kind"]>({ entries }: Pick<History, "entries">, kind: K): Of<K>[] =>
  entries.filter((entry): entry is Of<K> => entry.kind === kind)
