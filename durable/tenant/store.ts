/** TenantObject's SQL. Statements on the way of a create or a report are prepared once; all are synchronous. */
import { and, asc, eq, gt, isNotNull, isNull, lte, min, ne, sql, type SQL } from "drizzle-orm"
import { type CellId, type ContainerId, type EventId, formatId, ID_RANDOM_BYTES, type RunId } from "../../schema/ids.ts"
import { containers, idempotency, runs, settings } from "../../schema/tables/tenant.ts"
import { type Database, insertMany, prepareUpsert } from "../shared/database.ts"
import { Quota } from "../../schema/api.ts"
import type { ContainerListRequest, TenantConfig } from "../shared/rpc.ts"
import { EventStore } from "./event-store.ts"
import type { Group } from "./group.ts"
import type { Settled } from "./plan.ts"
import { Recent } from "./recent.ts"
import { added, NO_USE, type Use, useOf } from "./use.ts"
import type { ContainerRow, IdempotencyRow, RunRow } from "./rows.ts"

/** Rows taken by one sweep of the alarm; what is left over keeps the alarm due. */
const SWEEP = 1_000

const NO_RANDOM = new Uint8Array(ID_RANDOM_BYTES)

/** What is kept with an idempotency key. */
export type Answers = NonNullable<IdempotencyRow["answer"]>

export class TenantStore {
  readonly events: EventStore
  readonly #db: Database
  readonly #putContainer: (row: ContainerRow) => void
  readonly #putRun: (row: RunRow) => void
  readonly #putIdempotency: (row: IdempotencyRow) => void
  readonly #statements
  readonly #recent = new Recent()
  #used: Use | undefined

  constructor(db: Database) {
    this.#db = db
    this.events = new EventStore(db)
    this.#putContainer = prepareUpsert(db, containers, containers.id)
    this.#putRun = prepareUpsert(db, runs, runs.id)
    const p = sql.placeholder
    this.#statements = {
      container: db.select().from(containers).where(eq(containers.id, p("id"))).prepare(),
      liveByName: db
        .select()
        .from(containers)
        .where(and(eq(containers.name, p("name")), isNull(containers.removed_at_ms)))
        .prepare(),
      run: db.select().from(runs).where(eq(runs.id, p("id"))).prepare(),
      runsOf: db.select().from(runs).where(eq(runs.container_id, p("id"))).orderBy(asc(runs.id)).prepare(),
      kept: db.select({ containers: sql<number>`count(*)` }).from(containers).where(isNull(containers.removed_at_ms)).prepare(),
      active: db.select({ spec: containers.spec }).from(containers).where(sql`active = 1`).prepare(),
      createdSince: db
        .select({ containers: sql<number>`count(*)` })
        .from(containers)
        .where(gt(containers.id, p("least")))
        .prepare(),
      idempotency: db
        .select()
        .from(idempotency)
        .where(and(eq(idempotency.subject, p("subject")), eq(idempotency.key, p("key"))))
        .prepare(),
    } as const // prettier-ignore
    const answered = db
      .insert(idempotency)
      .values({
        subject: p("subject"),
        key: p("key"),
        fingerprint: p("fingerprint"),
        container_id: p("container_id"),
        status: p("status"),
        answer: p("answer"),
        expires_at_ms: p("expires_at_ms"),
      }) // prettier-ignore
      .onConflictDoUpdate({
        target: [idempotency.subject, idempotency.key],
        set: { answer: sql`excluded.answer`, status: sql`excluded.status` },
      })
      .prepare()
    this.#putIdempotency = (row) => void answered.run(row)
  }

  transaction<T>(work: () => T): T {
    try {
      return this.#db.transaction(() => work())
    } catch (error) {
      this.#recent.clear() // what it had written is not there
      this.#used = undefined
      throw error
    }
  }

  /** @throws when nothing can be written. */
  probe(): void {
    this.#db.update(settings).set({ id: 1 }).run()
  }

  settings(): TenantConfig | undefined {
    const row = this.#db.select().from(settings).get()
    // A row of an older version lacks what quotas have come to count since.
    return row && { ...row, quota: Quota.parse(row.quota) }
  }

  saveSettings(config: TenantConfig): void {
    const row = { ...config, cells: [...config.cells], id: 1 }
    this.#db.insert(settings).values(row).onConflictDoUpdate({ target: settings.id, set: row }).run()
  }

  container(id: ContainerId): ContainerRow | undefined {
    return this.#recent.get(id)?.container ?? this.#statements.container.get({ id })
  }

  liveByName(name: string): ContainerRow | undefined {
    return this.#statements.liveByName.get({ name })
  }

  run(id: RunId): RunRow | undefined {
    return this.#recent.byRun(id)?.runs.find((run) => run.id === id) ?? this.#statements.run.get({ id })
  }

  group(id: ContainerId): Group | undefined {
    const known = this.#recent.get(id)
    if (known) return known
    const container = this.container(id)
    if (!container) return undefined
    const group = { container, runs: this.#statements.runsOf.all({ id }) }
    this.#recent.put(group)
    return group
  }

  /** Writes what differs. Rows that `settle` left alone are the same objects, so identity tells. */
  saveGroup(before: Group | null, after: Group): void {
    if (before?.container !== after.container) this.#putContainer(after.container)
    for (const run of after.runs) if (!before?.runs.includes(run)) this.#putRun(run)
    const kept = new Set(after.runs.map((run) => run.id))
    for (const { id } of before?.runs ?? []) {
      if (kept.has(id)) continue
      this.#db.delete(runs).where(eq(runs.id, id)).run()
      this.events.forgetNotices(id)
    }
    this.#recent.put(after)
    if (before) this.#count(before.container, -1)
    this.#count(after.container, 1)
  }

  /** New containers, each with its events, in a few statements. */
  insertAll(settled: readonly Settled[], time_ms: number, newId: () => EventId): void {
    const groups = settled.map(({ group }) => group)
    insertMany(this.#db, containers, groups.map(({ container }) => container)) // prettier-ignore
    insertMany(this.#db, runs, groups.flatMap((group) => group.runs)) // prettier-ignore
    this.events.addAll(settled.map(({ group, events }) => ({ container: group.container, drafts: events })), time_ms, newId) // prettier-ignore
    for (const group of groups) {
      this.#recent.put(group)
      this.#count(group.container, 1)
    }
  }

  /** Containers that are not removed. */
  kept(): number {
    return this.#statements.kept.get()?.containers ?? 0
  }

  /** Those of the names that a live container has. */
  takenOf(names: readonly string[]): string[] {
    const [only] = names
    if (only === undefined) return []
    if (names.length === 1) return this.liveByName(only) ? [only] : []
    const asked = sql`${containers.name} in (select value from json_each(${JSON.stringify(names)}))`
    const taken = this.#db.select({ name: containers.name }).from(containers).where(and(isNull(containers.removed_at_ms), asked)) // prettier-ignore
    return taken.all().flatMap(({ name }) => name ?? [])
  }

  /** Where a live run of the tenant's placement group was placed, or is asked to be; but for one run. */
  cellOfGroup(group: string, but: RunId): CellId | undefined {
    const theirs = sql`json_extract(${containers.spec}, '$.placement.group') = ${group}`
    const live = sql`${containers.active} = 1 and ${runs.finished_at_ms} is null and ${runs.cell_id} is not null`
    const found = this.#db
      .select({ cell: runs.cell_id })
      .from(runs)
      .innerJoin(containers, eq(containers.id, runs.container_id))
      .where(and(live, theirs, ne(runs.id, but)))
      .orderBy(asc(runs.id))
      .limit(1)
      .get()
    return found?.cell ?? undefined
  }

  /** Of all containers that count. Summed once and then carried along: a create must not take longer for each that is there. */
  used(): Use {
    return (this.#used ??= this.#statements.active.all().reduce((sum, { spec }) => added(sum, useOf(spec.resources), 1), NO_USE))
  }

  #count(container: ContainerRow, sign: 1 | -1): void {
    if (container.active && this.#used) this.#used = added(this.#used, useOf(container.spec.resources), sign)
  }

  /** Containers that were made after then; ids are in the order of time. */
  createdSince(ms: number): number {
    return this.#statements.createdSince.get({ least: formatId("ctr", ms, NO_RANDOM) })?.containers ?? 0
  }

  /** Containers in the order they were made, each with its latest run. */
  list(request: ContainerListRequest, limit: number): { container: ContainerRow; run: RunRow | null }[] {
    const conditions: SQL[] = request.labels.map(({ key, value }) =>
      value === null
        ? sql`exists (select 1 from json_each(${containers.spec}, '$.labels') where key = ${key})`
        : sql`exists (select 1 from json_each(${containers.spec}, '$.labels') where key = ${key} and value = ${value})`,
    )
    if (request.cursor !== null) conditions.push(gt(containers.id, request.cursor as ContainerId))
    conditions.push(request.status === null ? isNull(containers.removed_at_ms) : eq(containers.status, request.status))
    return this.#db
      .select({ container: containers, run: runs })
      .from(containers)
      .leftJoin(runs, eq(runs.id, containers.latest_run_id))
      .where(and(...conditions))
      .orderBy(asc(containers.id))
      .limit(limit)
      .all()
  }

  /* The outbox and the clock. */

  dueRuns(now: number): RunRow[] {
    return this.#db.select().from(runs).where(lte(runs.retry_at_ms, now)).orderBy(asc(runs.retry_at_ms)).limit(SWEEP).all()
  }

  pendingRuns(): RunRow[] {
    const pending = and(isNotNull(runs.retry_at_ms), eq(runs.state, "pending"))
    return this.#db.select().from(runs).where(pending).orderBy(asc(runs.id)).limit(SWEEP).all()
  }

  dueContainers(now: number): ContainerId[] {
    const due = this.#db.select({ id: containers.id }).from(containers).where(lte(containers.wake_at_ms, now))
    return due
      .orderBy(asc(containers.wake_at_ms))
      .limit(SWEEP)
      .all()
      .map((row) => row.id)
  }

  nextRetry(): number | null {
    return (
      this.#db
        .select({ at: min(runs.retry_at_ms) })
        .from(runs)
        .where(isNotNull(runs.retry_at_ms))
        .get()?.at ?? null
    )
  }

  nextDeadline(): number | null {
    const at = this.#db
      .select({ at: min(containers.wake_at_ms) })
      .from(containers)
      .where(isNotNull(containers.wake_at_ms))
    return at.get()?.at ?? null
  }

  /* Idempotency. */

  idempotency(subject: string, key: string): IdempotencyRow | undefined {
    return this.#statements.idempotency.get({ subject, key })
  }

  putIdempotency(row: IdempotencyRow): void {
    this.#putIdempotency(row)
  }

  /* Retention. */

  /** Deletes what is past its time; each bound is the latest time that goes. */
  collect(bounds: { idempotency: number; events: number; removed: number }, mostEvents: number): void {
    const db = this.#db
    this.#recent.clear()
    db.delete(idempotency).where(lte(idempotency.expires_at_ms, bounds.idempotency)).run()
    this.events.collect(bounds.events, mostEvents)
    const gone = db.select({ id: containers.id }).from(containers).where(lte(containers.removed_at_ms, bounds.removed))
    const settled = sql`not exists (select 1 from ${runs} where ${runs.container_id} = ${containers.id} and ${runs.retry_at_ms} is not null)`
    for (const { id } of gone.limit(SWEEP).all()) {
      const deleted = db
        .delete(containers)
        .where(and(eq(containers.id, id), settled))
        .returning({ id: containers.id })
        .all()
      if (deleted.length === 0) continue
      const theirs = db.delete(runs).where(eq(runs.container_id, id)).returning({ id: runs.id }).all()
      for (const run of theirs) this.events.forgetNotices(run.id)
    }
  }

  /** The earliest time at which `collect` has something to do, for each of its bounds. */
  oldest(): { idempotency: number | null; event: number | null; removed: number | null } {
    const db = this.#db
    return {
      idempotency:
        db
          .select({ at: min(idempotency.expires_at_ms) })
          .from(idempotency)
          .get()?.at ?? null,
      event: this.events.oldest(),
      removed:
        db
          .select({ at: min(containers.removed_at_ms) })
          .from(containers)
          .get()?.at ?? null,
    }
  }
}
