/**
 * What operators do to a node: keep new runs away, empty it, keep it for some tenants, move it to another cell. Each is written
 * down first, then told to the cell and the tenants; what could not be told now the alarm tells.
 */
import { AppError } from "../../schema/errors.ts"
import type { CellId, TenantId } from "../../schema/ids.ts"
import type { Clock } from "../shared/ports.ts"
import type { NodeStatus } from "../shared/rpc.ts"
import type { AssignmentSet } from "./assignment-set.ts"
import type { CellLink } from "./cell-link.ts"
import { begun, mustForce, nextLook, owing } from "./drain.ts"
import { type NodeRow, type NodeStore, stopping } from "./store.ts"
import { DRAINING, type TenantLink } from "./tenant-link.ts"

/** Should this object die while it tells. */
const RETRY_MS = 2_000

export interface OperatorParts {
  readonly store: NodeStore
  readonly set: AssignmentSet
  readonly cell: CellLink
  readonly tenants: TenantLink
  readonly clock: Clock
  /** The alarm is to go off no later. */
  readonly wakeAt: (atMs: number | null) => void
}

export class OperatorCalls {
  readonly #parts: OperatorParts

  constructor(parts: OperatorParts) {
    this.#parts = parts
  }

  async cordon(cordon_reason: string | null): Promise<void> {
    this.#known()
    await this.#change({ cordoned: true, cordon_reason })
  }

  async uncordon(): Promise<void> {
    this.#known()
    await this.#change({ cordoned: false, cordon_reason: null, drain: null })
  }

  async setExclusive(exclusive_to: TenantId[] | null): Promise<void> {
    this.#known()
    await this.#change({ exclusive_to })
  }

  async drain(deadlineMs: number): Promise<void> {
    const { store, clock, tenants } = this.#parts
    const { drain } = this.#known()
    const now = clock.now()
    const next = begun(drain, store.countLive(), deadlineMs, now)
    this.#parts.wakeAt(nextLook(next, 1, now))
    // The cell first: what a tenant takes away must not be placed here again.
    await this.#change({ cordoned: true, drain: next })
    await tenants.tell()
  }

  async moveTo(cellId: CellId): Promise<void> {
    const { store, cell } = this.#parts
    const { cell_id, cordoned } = this.#known()
    if (cell_id === cellId) return
    if (!cordoned) throw new AppError("action_not_allowed", "Drain the node first: it may still be given runs in its cell.")
    const live = store.countLive()
    if (live > 0) throw new AppError("action_not_allowed", `Drain the node first: ${live} runs are still assigned to it.`)
    await cell.moveTo(cellId)
    await cell.tell()
  }

  /** Assignments came: of a node that is being emptied they were placed before the cell had heard so. */
  assigned(): void {
    const { store, clock, wakeAt } = this.#parts
    const drain = store.node()?.drain
    if (!drain) return
    store.updateNode({ drain: owing(drain, clock.now()) })
    wakeAt(clock.now())
  }

  /** At an alarm, before tenants are told. */
  look(): void {
    const { store, set, clock } = this.#parts
    const drain = store.node()?.drain
    if (!drain) return
    const now = clock.now()
    if (drain.due === null && store.hasLive()) store.updateNode({ drain: owing(drain, now) })
    if (!mustForce(drain, now)) return
    set.change(
      store
        .live()
        .filter((row) => row.desired === "running")
        .map((row) => stopping(row, DRAINING)),
      [],
    )
  }

  nextLook(): number | null {
    const { store, clock } = this.#parts
    const drain = store.node()?.drain ?? null
    return drain && nextLook(drain, store.countLive(), clock.now())
  }

  progress({ drain }: NodeRow): NodeStatus["drain"] {
    if (drain === null) return null
    const { since_ms, deadline_ms, runs_at_start } = drain
    return { since_ms, deadline_ms, runs_at_start, runs_left: this.#parts.store.countLive() }
  }

  async #change(change: Partial<NodeRow>): Promise<void> {
    const { store, cell, clock, wakeAt } = this.#parts
    store.updateNode({ ...change, cell_due: true })
    wakeAt(clock.now() + RETRY_MS)
    await cell.tell()
  }

  #known(): NodeRow {
    const node = this.#parts.store.node()
    if (node === undefined) throw new AppError("not_found", "The node has not connected yet.")
    return node
  }
}
