/** The SQL of endpoints and deliveries, in their tenant's database. All statements are synchronous. */
import { and, asc, desc, eq, gt, isNotNull, lt, lte, min, sql } from "drizzle-orm"
import type { WebhookId } from "../../../schema/ids.ts"
import { deliveries, deliveryAttempts, events, replays, webhooks } from "../../../schema/tables/tenant.ts"
import type { DeliveryState } from "../../../schema/webhooks.ts"
import type { Database } from "../../shared/database.ts"
import type { EventRow } from "../rows.ts"

export type WebhookRow = typeof webhooks.$inferSelect
export type DeliveryRow = typeof deliveries.$inferSelect
export type AttemptRow = Omit<typeof deliveryAttempts.$inferSelect, "id">
export type ReplayRow = typeof replays.$inferSelect

/** Rows that one sweep deletes; what is left over keeps the alarm due. */
const SWEEP = 5_000

export class WebhookStore {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  transaction(work: () => void): void {
    this.#db.transaction(() => work())
  }

  all(): WebhookRow[] {
    return this.#db.select().from(webhooks).orderBy(asc(webhooks.id)).all()
  }

  get(id: WebhookId): WebhookRow | undefined {
    return this.#db.select().from(webhooks).where(eq(webhooks.id, id)).get()
  }

  put(row: WebhookRow): void {
    this.#db.insert(webhooks).values(row).onConflictDoUpdate({ target: webhooks.id, set: row }).run()
  }

  /** The endpoint and all that was to be sent to it. */
  remove(id: WebhookId): void {
    this.#db.transaction((tx) => {
      for (const table of [deliveries, deliveryAttempts, replays]) tx.delete(table).where(eq(table.webhook_id, id)).run()
      tx.delete(webhooks).where(eq(webhooks.id, id)).run()
    })
  }

  event(seq: number): EventRow | undefined {
    return this.#db.select().from(events).where(eq(events.seq, seq)).get()
  }

  eventsBetween(after: number, until: number, limit: number): EventRow[] {
    const within = and(gt(events.seq, after), lte(events.seq, until))
    return this.#db.select().from(events).where(within).orderBy(asc(events.seq)).limit(limit).all()
  }

  lastSeq(): number {
    return this.#db.select({ seq: events.seq }).from(events).orderBy(desc(events.seq)).limit(1).get()?.seq ?? 0
  }

  delivery(id: WebhookId, seq: number): DeliveryRow | undefined {
    return this.#db
      .select()
      .from(deliveries)
      .where(and(eq(deliveries.webhook_id, id), eq(deliveries.seq, seq)))
      .get()
  }

  /** The retry that has been due longest. */
  dueRetry(id: WebhookId, now: number): DeliveryRow | undefined {
    const due = and(eq(deliveries.webhook_id, id), lte(deliveries.next_attempt_ms, now))
    return this.#db.select().from(deliveries).where(due).orderBy(asc(deliveries.next_attempt_ms)).limit(1).get()
  }

  nextRetryMs(id: WebhookId): number | null {
    const waiting = and(eq(deliveries.webhook_id, id), isNotNull(deliveries.next_attempt_ms))
    return (
      this.#db
        .select({ at: min(deliveries.next_attempt_ms) })
        .from(deliveries)
        .where(waiting)
        .get()?.at ?? null
    )
  }

  putDelivery(row: DeliveryRow): void {
    const target = [deliveries.webhook_id, deliveries.seq]
    this.#db.insert(deliveries).values(row).onConflictDoUpdate({ target, set: row }).run()
  }

  addAttempt(row: AttemptRow): void {
    this.#db.insert(deliveryAttempts).values(row).run()
  }

  /** Newest first, each with its event. */
  list(
    id: WebhookId,
    before: number | null,
    state: DeliveryState | null,
    limit: number,
  ): { delivery: DeliveryRow; event: EventRow }[] {
    const conditions = [eq(deliveries.webhook_id, id)]
    if (before !== null) conditions.push(lt(deliveries.seq, before))
    if (state !== null) conditions.push(eq(deliveries.state, state))
    return this.#db
      .select({ delivery: deliveries, event: events })
      .from(deliveries)
      .innerJoin(events, eq(events.seq, deliveries.seq))
      .where(and(...conditions))
      .orderBy(desc(deliveries.seq))
      .limit(limit)
      .all()
  }

  attempts(id: WebhookId, seq: number): AttemptRow[] {
    const of = and(eq(deliveryAttempts.webhook_id, id), eq(deliveryAttempts.seq, seq))
    return this.#db.select().from(deliveryAttempts).where(of).orderBy(asc(deliveryAttempts.id)).all()
  }

  /* Replays. */

  addReplay(webhook_id: WebhookId, seq: number, until_seq: number): void {
    this.#db.insert(replays).values({ webhook_id, seq, until_seq }).run()
  }

  replay(id: WebhookId): ReplayRow | undefined {
    return this.#db.select().from(replays).where(eq(replays.webhook_id, id)).orderBy(asc(replays.id)).limit(1).get()
  }

  moveReplay({ id, until_seq }: ReplayRow, seq: number): void {
    if (seq >= until_seq) this.#db.delete(replays).where(eq(replays.id, id)).run()
    else this.#db.update(replays).set({ seq }).where(eq(replays.id, id)).run()
  }

  /* Retention. */

  /** Deletes deliveries whose last attempt lies so far back, except those that are still under way. */
  collect(untilMs: number): void {
    const old = and(lte(deliveries.last_attempt_ms, untilMs), sql`${deliveries.next_attempt_ms} is null`)
    const gone = this.#db
      .select({ id: deliveries.webhook_id, seq: deliveries.seq })
      .from(deliveries)
      .where(old)
      .limit(SWEEP)
      .all()
    for (const { id, seq } of gone) {
      this.#db
        .delete(deliveryAttempts)
        .where(and(eq(deliveryAttempts.webhook_id, id), eq(deliveryAttempts.seq, seq)))
        .run()
      this.#db
        .delete(deliveries)
        .where(and(eq(deliveries.webhook_id, id), eq(deliveries.seq, seq)))
        .run()
    }
  }

  oldestMs(): number | null {
    return (
      this.#db
        .select({ at: min(deliveries.last_attempt_ms) })
        .from(deliveries)
        .get()?.at ?? null
    )
  }
}
