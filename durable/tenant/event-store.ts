/** TenantObject's SQL for its log of events, and for the notices that were told in it. Append-only but for what is past its time. */
import { and, asc, desc, eq, gt, lt, min, sql, type SQL } from "drizzle-orm"
import type { EventType } from "../../schema/api.ts"
import type { ContainerId, EventId, RunId } from "../../schema/ids.ts"
import type { Notice } from "../../schema/protocol.ts"
import { events, notices } from "../../schema/tables/tenant.ts"
import { type Database, insertMany } from "../shared/database.ts"
import type { EventDraft } from "./events.ts"
import type { ContainerRow, EventRow } from "./rows.ts"

export interface EventFilter {
  readonly types: readonly string[]
  readonly container: ContainerId | null
}

export class EventStore {
  readonly #db: Database
  readonly #add

  constructor(db: Database) {
    this.#db = db
    const p = sql.placeholder
    this.#add = db
      .insert(events)
      .values({
        id: p("id"),
        type: p("type"),
        time_ms: p("time_ms"),
        container_id: p("container_id"),
        container_name: p("container_name"),
        run_id: p("run_id"),
        data: p("data"),
      }) // prettier-ignore
      .prepare()
  }

  add(container: ContainerRow | null, draft: EventDraft, time_ms: number, id: EventId): EventId {
    this.#add.run(rowOf(container, draft, time_ms, id))
    return id
  }

  /** Those of many containers, in a few statements. */
  addAll(
    all: readonly { readonly container: ContainerRow; readonly drafts: readonly EventDraft[] }[],
    time_ms: number,
    newId: () => EventId,
  ): void {
    const rows = all.flatMap(({ container, drafts }) => drafts.map((draft) => rowOf(container, draft, time_ms, newId())))
    insertMany(this.#db, events, rows)
  }

  notices(run_id: RunId): Pick<Notice, "id" | "kind">[] {
    return this.#db.select().from(notices).where(eq(notices.run_id, run_id)).all()
  }

  addNotice({ run_id, id, kind }: Notice): void {
    this.#db.insert(notices).values({ run_id, id, kind }).run()
  }

  forgetNotices(run_id: RunId): void {
    this.#db.delete(notices).where(eq(notices.run_id, run_id)).run()
  }

  seqOf(id: EventId): number | undefined {
    return this.#db.select({ seq: events.seq }).from(events).where(eq(events.id, id)).get()?.seq
  }

  lastSeq(): number {
    return this.#db.select({ seq: events.seq }).from(events).orderBy(desc(events.seq)).limit(1).get()?.seq ?? 0
  }

  after(seq: number, filter: EventFilter, limit: number): EventRow[] {
    const conditions: SQL[] = [gt(events.seq, seq)]
    if (filter.container !== null) conditions.push(eq(events.container_id, filter.container))
    if (filter.types.length > 0) {
      const wanted = filter.types.map((type) =>
        type.endsWith(".*")
          ? sql`substr(${events.type}, 1, ${type.length - 1}) = ${type.slice(0, -1)}`
          : eq(events.type, type as EventType),
      )
      conditions.push(sql`(${sql.join(wanted, sql` or `)})`)
    }
    return this.#db
      .select()
      .from(events)
      .where(and(...conditions))
      .orderBy(asc(events.seq))
      .limit(limit)
      .all()
  }

  /** Deletes those of `untilMs` and before, and all but the last `most`. Sequence and time rise together, so no index on time is needed. */
  collect(untilMs: number, most: number): void {
    const last = this.lastSeq()
    const first = this.#db
      .select({ seq: min(events.seq) })
      .from(events)
      .where(gt(events.time_ms, untilMs))
      .get()?.seq
    this.#db
      .delete(events)
      .where(lt(events.seq, Math.max(first ?? last + 1, last - most + 1)))
      .run()
  }

  /** How many are kept; none was taken out of the middle. */
  count(): number {
    const first = this.#db
      .select({ seq: min(events.seq) })
      .from(events)
      .get()?.seq
    return first == null ? 0 : this.lastSeq() - first + 1
  }

  /** When the oldest that is kept was written, Unix milliseconds. */
  oldest(): number | null {
    return this.#db.select({ at: events.time_ms }).from(events).orderBy(asc(events.seq)).limit(1).get()?.at ?? null
  }
}

const rowOf = (container: ContainerRow | null, { type, run_id, data }: EventDraft, time_ms: number, id: EventId) => {
  const [container_id, container_name] = container ? [container.id, container.name] : [null, null]
  return { id, type, time_ms, container_id, container_name, run_id, data }
}
