/**
 * The one way in which a container changes: load it with its runs, apply a pure mutation, settle it, write what differs and
 * the events of it, all in one transaction. What must follow (waking who waits, carrying the outbox, setting the alarm) is
 * told to the owner after the commit, once for a batch.
 */
import type { ContainerSpec } from "../../schema/container.ts"
import type { CellId, ContainerId, RunId } from "../../schema/ids.ts"
import type { Clock, Ids } from "../shared/ports.ts"
import type { Changed } from "./placing.ts"
import type { Group } from "./group.ts"
import { settle, type Settled } from "./plan.ts"
import type { RunRow } from "./rows.ts"
import type { TenantStore } from "./store.ts"

export interface Committed {
  /** Those that may have changed. */
  readonly containers: ReadonlySet<ContainerId>
  /** Runs whose outbox has a mark that it did not have before. */
  readonly due: readonly RunRow[]
  /** The earliest time at which something of what changed falls due. */
  readonly wakeAtMs: number | null
}

export interface LedgerPorts {
  committed(committed: Committed): void
  /** The cell that a new run is to ask first; null when that takes a look at the cells, or there is none. */
  cellOfNewRuns(spec: ContainerSpec): CellId | null
}

export type Mutation = (group: Group, now: number) => Changed

export class Ledger {
  readonly #store: TenantStore
  readonly #clock: Clock
  readonly #ids: Ids
  readonly #committed: (committed: Committed) => void
  readonly #cellOfNewRuns: LedgerPorts["cellOfNewRuns"]
  #batch: { containers: Set<ContainerId>; due: RunRow[]; wakes: number[] } | null = null

  constructor(store: TenantStore, clock: Clock, ids: Ids, ports: LedgerPorts) {
    this.#store = store
    this.#clock = clock
    this.#ids = ids
    this.#committed = ports.committed
    this.#cellOfNewRuns = ports.cellOfNewRuns
  }

  /** Everything that `work` changes is one transaction. It may not await. */
  batch<T>(work: () => T): T {
    if (this.#batch !== null) return work()
    const batch = { containers: new Set<ContainerId>(), due: [] as RunRow[], wakes: [] as number[] }
    this.#batch = batch
    let result: T
    try {
      result = this.#store.transaction(work)
    } finally {
      this.#batch = null
    }
    const wakeAtMs = batch.wakes.length === 0 ? null : batch.wakes.reduce((a, b) => Math.min(a, b))
    this.#committed({ containers: batch.containers, due: batch.due, wakeAtMs })
    return result
  }

  /** Undefined when the container is known no longer. */
  change(id: ContainerId, mutate: Mutation): Group | undefined {
    return this.batch(() => {
      const before = this.#store.group(id)
      return before && this.#write(before, mutate(before, this.#clock.now()))
    })
  }

  changeRun(id: RunId, mutate: (group: Group, run: RunRow, now: number) => Changed): void {
    this.batch(() => {
      const container = this.#store.run(id)?.container_id
      if (container === undefined) return
      this.change(container, (group, now) => {
        const run = group.runs.find((one) => one.id === id)
        return run ? mutate(group, run, now) : { group, events: [] }
      })
    })
  }

  create(changed: Changed): Group {
    return this.batch(() => this.#write(null, changed))
  }

  /** Many at once, in a handful of writes. */
  createAll(changes: readonly Changed[]): Group[] {
    return this.batch(() => {
      const now = this.#clock.now()
      const settled = changes.map((changed) => this.#settle(null, changed, now))
      this.#store.insertAll(settled, now, () => this.#ids.make("evt"))
      for (const { group } of settled) this.#note(null, group)
      return settled.map(({ group }) => group)
    })
  }

  #settle(before: Group | null, { group, events }: Changed, now: number): Settled {
    const making = { now, newRunId: () => this.#ids.make("run"), cell: this.#cellOfNewRuns(group.container.spec) }
    return settle(before, group, making, events)
  }

  #write(before: Group | null, changed: Changed): Group {
    const now = this.#clock.now()
    const { group, events } = this.#settle(before, changed, now)
    this.#store.saveGroup(before, group)
    for (const draft of events) this.#store.events.add(group.container, draft, now, this.#ids.make("evt"))
    this.#note(before, group)
    return group
  }

  #note(before: Group | null, after: Group): void {
    if (this.#batch === null) return
    this.#batch.containers.add(after.container.id)
    for (const run of after.runs) {
      const old = before?.runs.find((one) => one.id === run.id)
      if (newlyDue(old, run)) this.#batch.due.push(run)
      if (run.retry_at_ms !== null) this.#batch.wakes.push(run.retry_at_ms)
    }
    if (after.container.wake_at_ms !== null) this.#batch.wakes.push(after.container.wake_at_ms)
  }
}

function newlyDue(old: RunRow | undefined, run: RunRow): boolean {
  if (run.state === "pending") return old === undefined
  return (run.assign_due && !old?.assign_due) || (run.release_due && !old?.release_due)
}
