/**
 * Carries a tenant's outbox to the other objects: places pending runs, tells nodes what to make true, gives reservations
 * back. Each call is idempotent by run id and each mark is cleared only after the other side has answered, so a crash at any
 * line repeats a call at worst: the marks are in SQLite and the alarm takes them up again.
 *
 * A run is in one call at a time. What changes meanwhile stays marked and is carried when the call returns, so a newer wish
 * is never overtaken by an older one.
 */
import type { CellId, RunId } from "../../schema/ids.ts"
import type { Clock, Peers } from "../shared/ports.ts"
import type { TenantConfig } from "../shared/rpc.ts"
import { Asking } from "./asking.ts"
import type { Cells } from "./cells.ts"
import { isFaulty } from "./faulty.ts"
import { Gathered } from "./gathered.ts"
import { type Group, replaceRun } from "./group.ts"
import type { Changed } from "./placing.ts"
import type { RunRow } from "./rows.ts"
import type { TenantStore } from "./store.ts"
import { Telling } from "./telling.ts"

/** After a call that failed. */
const RETRY_MS = 2_000

export interface SagaPorts {
  readonly store: TenantStore
  readonly peers: Peers
  readonly clock: Clock
  readonly cells: Cells
  settings(): TenantConfig
  /** Changes a run's container and settles it, in a transaction; a run that is known no longer is left alone. */
  change(run: RunId, mutate: (group: Group, run: RunRow, now: number) => Changed): void
  /** Makes one transaction of all changes in `work`. */
  batch(work: () => void): void
  /** Keeps the object awake for work that nobody waits for. */
  background(work: Promise<void>): void
}

export class Saga {
  readonly #ports: SagaPorts
  readonly #telling: Telling
  readonly #inCall = new Map<RunId, Promise<void>>()
  readonly #toPlace: Gathered<RunId>

  constructor(ports: SagaPorts) {
    this.#ports = ports
    this.#telling = new Telling(ports)
    const asking = new Asking(ports, (places) => this.#telling.handOver(places))
    this.#toPlace = new Gathered((runs, answered) => asking.place(runs, answered))
  }

  /** Does what the runs' marks ask for; resolves when those calls have returned. Never throws: a failure is retried later. */
  drive(runs: readonly RunRow[]): Promise<void> {
    const free = runs.filter((run) => !this.#inCall.has(run.id))
    const calls = this.#call(free)
    for (const run of free) this.#inCall.set(run.id, calls)
    return calls
  }

  /** Resolves when the call that a run is in has returned, at once when it is in none. */
  called(run: RunId): Promise<void> {
    return this.#inCall.get(run) ?? Promise.resolve()
  }

  /** Resolves when those of the runs that a node is being told of for the first time are on record as placed. */
  async handedOver(runs: readonly RunRow[]): Promise<void> {
    for (const { id } of runs) await this.#telling.handing(id)
  }

  async #call(runs: readonly RunRow[]): Promise<void> {
    const [pending, others] = [runs.filter((run) => run.state === "pending"), runs.filter((run) => run.state !== "pending")]
    const byNode = Map.groupBy(
      others.filter((run) => run.assign_due),
      (run) => run.node_id,
    )
    const byCell = Map.groupBy(
      others.filter((run) => run.release_due),
      (run) => run.cell_id,
    )
    const results = await Promise.allSettled([
      ...(pending.length > 0 ? [this.#toPlace.add(pending.map((run) => run.id))] : []),
      ...[...byNode].map(([node, group]) => this.#telling.assign(node, group)),
      ...[...byCell].map(([cell, group]) => this.#release(cell, group)),
    ])
    for (const run of runs) this.#inCall.delete(run.id)
    const failed = results.filter((result) => result.status === "rejected")
    for (const { reason } of failed) console.error("a call to another object failed and will be tried again", reason)
    if (failed.length > 0) this.#postpone(runs)
    else this.#ports.background(this.#driveLeftOver(runs))
  }

  /** What has become due while the calls were under way, such as the assignment of a run that was just placed. */
  async #driveLeftOver(runs: readonly RunRow[]): Promise<void> {
    const now = this.#ports.clock.now()
    const left = runs.map((run) => this.#ports.store.run(run.id)).filter((run) => run !== undefined)
    const due = left.filter(
      (run) => run.assign_due || run.release_due || (run.state === "pending" && (run.retry_at_ms ?? 0) <= now),
    )
    if (due.length > 0) await this.drive(due)
  }

  #postpone(runs: readonly RunRow[]): void {
    this.#ports.batch(() => {
      for (const { id } of runs) {
        this.#ports.change(id, (group, run, now) => {
          const due = run.state === "pending" || run.assign_due || run.release_due
          return { group: due ? replaceRun(group, { ...run, retry_at_ms: now + RETRY_MS }) : group, events: [] }
        })
      }
    })
  }

  async #release(cell: CellId | null, runs: readonly RunRow[]): Promise<void> {
    const ids = runs.map((run) => run.id)
    const faulty = runs.filter(isFaulty).map((run) => run.id)
    // One that was on record before cells were recorded ahead of the asking may be held by any.
    const cells = cell === null ? this.#ports.settings().cells : [cell]
    await Promise.all(cells.map((id) => this.#ports.peers.cell(id).release(ids, faulty)))
    this.#ports.batch(() => {
      for (const id of ids) {
        this.#ports.change(id, (group, run) => ({ group: replaceRun(group, { ...run, release_due: false }), events: [] }))
      }
    })
  }
}
