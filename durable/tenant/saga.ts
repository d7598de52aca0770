/**
 * Carries a tenant's outbox to the other objects: places pending runs, tells nodes what to make true, gives reservations
 * back. Each call is idempotent by run id and each mark is cleared only after the other side has answered, so a crash at any
 * line repeats a call at worst: the marks are in SQLite and the alarm takes them up again.
 *
 * A run is in one call at a time. What changes meanwhile stays marked and is carried when the call returns, so a newer wish
 * is never overtaken by an older one.
 *
 * A placed run is told to its node before it is on record here: each commit on the way of a create costs its caller a
 * millisecond or two. A crash in between leaves it pending, and then either the cell names the same node again, or that node
 * speaks of it first (`given` in placing.ts). What is done to such a run meanwhile waits for `handedOver`.
 */
import { featuresFor, hostPids } from "../../schema/features.ts"
import type { CellId, NodeId, RunId } from "../../schema/ids.ts"
import type { Clock, Peers } from "../shared/ports.ts"
import type { Ask, TenantConfig } from "../shared/rpc.ts"
import { Gathered } from "./gathered.ts"
import { refusedByPolicy } from "./policy.ts"
import {
  atPlace, type Changed, mergeRefused, mayGoEarly, type Place, placed, policyRefused, type Refused, unplaceable,
} from "./placing.ts" // prettier-ignore
import { type Group, replaceRun, sameWish } from "./plan.ts"
import type { RunRow } from "./rows.ts"
import type { TenantStore } from "./store.ts"
import { assignmentOf } from "./view.ts"

/** After a call that failed. */
const RETRY_MS = 2_000
/** A call takes 32 MiB, and an assignment may have up to 1 MiB, the most that a create body has. */
const ASSIGNMENTS_PER_CALL = 25

export interface SagaPorts {
  readonly store: TenantStore
  readonly peers: Peers
  readonly clock: Clock
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
  readonly #inCall = new Map<RunId, Promise<void>>()
  readonly #handing = new Map<RunId, Promise<void>>()
  readonly #toPlace = new Gathered<RunId>((runs, answered) => this.#place(runs, answered))

  constructor(ports: SagaPorts) {
    this.#ports = ports
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

  /** Resolves when a run that its node is being told of for the first time is on record as placed. */
  handedOver(run: RunId | null): Promise<void> | undefined {
    return run === null ? undefined : this.#handing.get(run)
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
      ...[...byNode].map(([node, group]) => inCalls(group, (some) => this.#assign(node, some))),
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
    for (const { id } of runs) {
      this.#ports.change(id, (group, run, now) => {
        const due = run.state === "pending" || run.assign_due || run.release_due
        return { group: due ? replaceRun(group, { ...run, retry_at_ms: now + RETRY_MS }) : group, events: [] }
      })
    }
  }

  /**
   * Asks the tenant's cells in order; only a cell's own refusal leads on to the next one. A cell that does not answer may have
   * placed the run, so it is asked again before any other.
   */
  async #place(runs: readonly RunId[], answered: () => void): Promise<void> {
    const { cells, policy } = this.#ports.settings()
    let asks = runs.flatMap((run) => this.#ask(run))
    const refused = new Map<RunId, (readonly Refused[])[]>(asks.flatMap((ask) => ask.run_ids.map((id) => [id, []])))
    for (const cell of cells) {
      if (asks.length === 0) break
      const asked_at_ms = this.#ports.clock.now()
      const placements = await this.#ports.peers.cell(cell).place(cell, asks)
      answered()
      const times = { asked_at_ms, answered_at_ms: this.#ports.clock.now() }
      const places: (readonly [RunId, Place])[] = []
      for (const { run_id, ...answer } of placements) {
        if (answer.node_id === null) refused.get(run_id)?.push(answer.refused)
        else {
          const { node_id: node, region, devices, features } = answer
          places.push([run_id, { cell, node, region, devices, features, policy, ...times }])
        }
      }
      for (const [id] of places) refused.delete(id)
      await this.#handOverAll(places)
      asks = asks
        .map((ask) => ({ ...ask, run_ids: ask.run_ids.filter((id) => refused.has(id)) }))
        .filter((ask) => ask.run_ids.length > 0)
    }
    for (const [id, lists] of refused) {
      this.#ports.change(id, (group, run, now) => unplaceable(group, run, mergeRefused(lists), now))
    }
  }

  /** None for a run that has ended while it waited for its turn. */
  #ask(id: RunId): Ask[] {
    const run = this.#ports.store.run(id)
    const spec = run?.state === "pending" ? this.#ports.store.container(run.container_id)?.spec : undefined
    if (run === undefined || spec === undefined) return []
    const { tenant_id, policy } = this.#ports.settings()
    const refusal = refusedByPolicy(spec, policy)
    if (refusal !== undefined) {
      this.#ports.change(run.id, (group, pending, now) => policyRefused(group, pending, refusal.detail, now))
      return []
    }
    const { profile, placement } = spec
    const resources = { ...spec.resources, pids: hostPids(spec) }
    const refuse_vulnerable = policy.vulnerable_nodes === "refuse"
    const features = featuresFor(spec)
    return [{ run_ids: [run.id], tenant_id, image: spec.image, resources, profile, features, refuse_vulnerable, placement }]
  }

  async #handOverAll(places: readonly (readonly [RunId, Place])[]): Promise<void> {
    const byNode = Map.groupBy(places, ([, at]) => at.node)
    await Promise.all([...byNode].map(([node, group]) => inCalls(group, (some) => this.#handOver(node, new Map(some)))))
  }

  async #handOver(node: NodeId, places: ReadonlyMap<RunId, Place>): Promise<void> {
    const now = this.#ports.clock.now()
    const fresh = [...places].flatMap(([id, at]) => {
      const run = this.#ports.store.run(id)
      const container = run && this.#ports.store.container(run.container_id)
      const early = run?.state === "pending" && container && mayGoEarly(container.spec, at)
      return early ? [atPlace(container.spec, run, at, now)] : []
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    for (const { id } of fresh) this.#handing.set(id, promise)
    let tookMs: number | undefined
    try {
      if (fresh.length > 0) tookMs = await this.#tell(node, fresh)
      // The object of the node shares our thread more often than not, and has its word to the host still to send.
      await scheduler.wait(0)
    } finally {
      for (const { id } of fresh) this.#handing.delete(id)
      resolve()
      this.#ports.batch(() => {
        for (const [id, at] of places) {
          const sent = fresh.find((run) => run.id === id)
          this.#ports.change(id, (group, run, at_ms) => {
            const known = placed(group, run, at, at_ms)
            return sent && tookMs !== undefined ? { ...known, group: acknowledged(known.group, sent, tookMs) } : known
          })
        }
      })
    }
  }

  async #assign(node: NodeId | null, due: readonly RunRow[]): Promise<void> {
    if (node === null) return
    const tookMs = await this.#tell(node, due)
    for (const sent of due) this.#ports.change(sent.id, (group) => ({ group: acknowledged(group, sent, tookMs), events: [] }))
  }

  /** How many milliseconds the node's object took for it. */
  async #tell(node: NodeId, runs: readonly RunRow[]): Promise<number> {
    const { tenant_id } = this.#ports.settings()
    const assignments = runs.flatMap((run) => {
      const container = this.#ports.store.container(run.container_id)
      return container ? [assignmentOf(tenant_id, container, run)] : []
    })
    const began = this.#ports.clock.now()
    await this.#ports.peers.node(node).assign(assignments)
    return this.#ports.clock.now() - began
  }

  async #release(cell: CellId | null, runs: readonly RunRow[]): Promise<void> {
    const ids = runs.map((run) => run.id)
    // A run that ended while it was being placed may hold a reservation at any of the tenant's cells.
    const cells = cell === null ? this.#ports.settings().cells : [cell]
    await Promise.all(cells.map((id) => this.#ports.peers.cell(id).release(ids, [])))
    for (const id of ids) {
      this.#ports.change(id, (group, run) => ({ group: replaceRun(group, { ...run, release_due: false }), events: [] }))
    }
  }
}

async function inCalls<T>(all: readonly T[], call: (some: readonly T[]) => Promise<void>): Promise<void> {
  for (let i = 0; i < all.length; i += ASSIGNMENTS_PER_CALL) await call(all.slice(i, i + ASSIGNMENTS_PER_CALL))
}

/** A wish that changed while it was being sent is still due. */
function acknowledged(group: Group, sent: RunRow, tookMs: number): Group {
  const run = group.runs.find((one) => one.id === sent.id)
  if (run === undefined) return group
  const timings = "assigned" in run.timings ? run.timings : { ...run.timings, assigned: tookMs }
  return replaceRun(group, { ...run, timings, assign_due: !sameWish(run, sent) })
}
