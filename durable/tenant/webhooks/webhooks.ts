/** Endpoints and their courier, put together for a TenantObject. */
import type { ContainerId, EventId, TenantId, WebhookId } from "../../../schema/ids.ts"
import { DELIVERY_RETENTION_SECONDS } from "../../../schema/webhooks.ts"
import type { Database } from "../../shared/database.ts"
import { type Clock, type Env, randomFraction } from "../../shared/ports.ts"
import { sealerFor } from "../../shared/sealing.ts"
import type { EventDraft } from "../events.ts"
import { Courier } from "./courier.ts"
import { parseRanges } from "./destination.ts"
import { Endpoints } from "./endpoints.ts"
import { WebhookStore } from "./store.ts"

/** Old deliveries go in strides, so that a busy endpoint does not keep the alarm busy. */
const STRIDE_MS = 10 * 60_000

export interface WebhooksPorts {
  readonly db: Database
  readonly env: Env
  readonly clock: Clock
  tenantId(): TenantId
  labelsOf(container: ContainerId): Readonly<Record<string, string>> | null
  seqOf(place: string): number
  /** Writes an event of no container, within the transaction that is under way. */
  addEvent(draft: EventDraft, now: number): EventId
  /** An event was written by itself. */
  told(): void
  background(work: Promise<void>): void
  wakeAt(ms: number | null): void
}

export class Webhooks {
  readonly endpoints: Endpoints
  readonly #courier: Courier
  readonly #store: WebhookStore
  readonly #clock: Clock

  constructor({ db, env, clock, tenantId, labelsOf, seqOf, addEvent, told, background, wakeAt }: WebhooksPorts) {
    const store = new WebhookStore(db)
    const allowed = parseRanges(env.WEBHOOK_ALLOW ?? "")
    const endpoints = new Endpoints({
      store,
      clock,
      allowed,
      sealer: sealerFor(env.SECRETS_KEY, "webhook keys"),
      seqOf,
      addTest: (id, now) => {
        const event = addEvent({ type: "webhook.test", run_id: null, data: { webhook_id: id } }, now)
        told()
        return event
      },
      changed: () => this.#courier.changed(),
    })
    this.#store = store
    this.#clock = clock
    this.endpoints = endpoints
    this.#courier = new Courier({
      store,
      clock,
      allowed,
      // A binding that judges what a name resolves to; where there is none, `fetch` itself reaches public addresses alone.
      network: env.WEBHOOK_NETWORK ?? { fetch: (url, init) => fetch(url, init) },
      random: randomFraction,
      tenantId,
      labelsOf,
      signersOf: (row, now) => endpoints.signersOf(row, now),
      addDisabled: (id: WebhookId, message: string, now: number) => {
        const reason = { code: "webhook_disabled", message }
        addEvent({ type: "webhook.disabled", run_id: null, data: { webhook_id: id, reason } }, now)
      },
      told,
      background,
      wakeAt,
    })
  }

  /** Events may have been written. */
  poke(): void {
    this.#courier.poke()
  }

  /** The alarm's part: what is due, and what is past its retention. */
  wake(): void {
    this.#store.collect(this.#clock.now() - DELIVERY_RETENTION_SECONDS * 1000)
    this.#courier.poke()
  }

  nextWake(): number | null {
    const oldest = this.#store.oldestMs()
    const collect =
      oldest === null
        ? null
        : (Math.floor(Math.max(oldest + DELIVERY_RETENTION_SECONDS * 1000, this.#clock.now()) / STRIDE_MS) + 1) * STRIDE_MS
    const deliver = this.#courier.nextWake()
    return collect === null ? deliver : deliver === null ? collect : Math.min(collect, deliver)
  }
}
