/** A tenant's endpoints, as it makes, reads and changes them. What is sent to them is the courier's. */
import type { Page } from "../../../schema/api.ts"
import { AppError } from "../../../schema/errors.ts"
import type { EventId, WebhookId } from "../../../schema/ids.ts"
import type { WebhookKeys } from "../../../schema/tables/tenant.ts"
import {
  type Delivery, MAX_WEBHOOKS, Webhook, type WebhookCreate, type WebhookReplay, type WebhookSecret, type WebhookUpdate,
} from "../../../schema/webhooks.ts" // prettier-ignore
import type { DeliveriesRequest } from "../../shared/rpc.ts"
import type { Sealer } from "../../shared/sealing.ts"
import type { Clock } from "../../shared/ports.ts"
import { eventView, formatCursor } from "../view.ts"
import { refusedDestination } from "./destination.ts"
import { makeKeys, shownPublicKey, shownSecret, type Signer, signerOf, type SigningKeys } from "./signature.ts"
import type { AttemptRow, WebhookRow, WebhookStore } from "./store.ts"

export interface EndpointsPorts {
  readonly store: WebhookStore
  readonly clock: Clock
  readonly sealer: Sealer
  readonly allowed: readonly string[]
  /** Writes a test's event into the log. */
  addTest(id: WebhookId, now: number): EventId
  /** The place of a cursor or an event's id in the log. @throws AppError `invalid_field`. */
  seqOf(place: string): number
  /** After a commit: there may be something to deliver. */
  changed(): void
}

const iso = (ms: number) => new Date(ms).toISOString()
const isoOrNull = (ms: number | null) => (ms === null ? null : iso(ms))

export class Endpoints {
  readonly #ports: EndpointsPorts
  /** By what they were sealed as. */
  readonly #signers = new Map<string, Signer>()

  constructor(ports: EndpointsPorts) {
    this.#ports = ports
  }

  /** A repeat with the same id, after a crash, answers what the first one made. */
  async create(id: WebhookId, create: WebhookCreate): Promise<WebhookSecret> {
    const { store, clock, changed } = this.#ports
    this.#refuse(create.url)
    const [first] = store.get(id)?.keys ?? []
    if (first === undefined) {
      const keys = await this.#newKeys(id)
      if (store.all().length >= MAX_WEBHOOKS)
        throw new AppError("quota_exceeded", `A tenant may have ${MAX_WEBHOOKS} webhooks; remove one first.`)
      store.put({
        id, created_at_ms: clock.now(), ...create, keys: [keys], disabled_reason: null, seq: store.lastSeq(), hold_until_ms: 0,
        failures: 0, failing_since_ms: null, last_attempt_ms: null, last_success_ms: null,
      }) // prettier-ignore
      changed()
    }
    return this.#withSecret(this.#row(id))
  }

  list(): Page<Webhook> {
    return { items: this.#ports.store.all().map(viewOf), next_cursor: null }
  }

  get(id: WebhookId): Webhook {
    return viewOf(this.#row(id))
  }

  update(id: WebhookId, { enabled, ...update }: WebhookUpdate): Webhook {
    if (update.url !== undefined) this.#refuse(update.url)
    const row = { ...this.#row(id), ...update }
    const healthy = { disabled_reason: null, failures: 0, failing_since_ms: null, hold_until_ms: 0 }
    const again = enabled === true && row.disabled_reason !== null ? healthy : {}
    const off = enabled === false ? { disabled_reason: row.disabled_reason ?? "You disabled it." } : {}
    this.#ports.store.put({ ...row, ...again, ...off })
    this.#ports.changed()
    return this.get(id)
  }

  remove(id: WebhookId): void {
    this.#row(id)
    this.#ports.store.remove(id)
    this.#ports.changed()
  }

  async rotate(id: WebhookId, overlapSeconds: number): Promise<WebhookSecret> {
    const { store, clock } = this.#ports
    this.#row(id)
    const keys = await this.#newKeys(id)
    const now = clock.now()
    const row = this.#row(id)
    const previous = row.keys
      .filter(({ until_ms }) => until_ms === null || until_ms > now)
      .map((old) => ({ ...old, until_ms: Math.min(old.until_ms ?? Infinity, now + overlapSeconds * 1000) }))
    store.put({ ...row, keys: [keys, ...previous.filter(({ until_ms }) => until_ms > now)] })
    this.#ports.changed()
    return this.#withSecret(this.#row(id))
  }

  test(id: WebhookId): { event_id: EventId } {
    this.#enabled(id)
    const event_id = this.#ports.addTest(id, this.#ports.clock.now())
    this.#ports.changed()
    return { event_id }
  }

  deliveries(id: WebhookId, { cursor, state, limit }: DeliveriesRequest): Page<Delivery> {
    const { store, seqOf } = this.#ports
    this.#row(id)
    const rows = store.list(id, cursor === null ? null : seqOf(cursor), state, limit + 1)
    const items = rows.slice(0, limit).map(({ delivery, event }) => {
      const { type, cursor: place } = eventView(event)
      const next_attempt_at = isoOrNull(delivery.next_attempt_ms)
      const attempts = store.attempts(id, delivery.seq).map(attemptView)
      return { event_id: event.id, type, state: delivery.state, next_attempt_at, attempts, cursor: place }
    })
    return { items, next_cursor: rows.length > limit ? (items.at(-1)?.cursor ?? null) : null }
  }

  /** What is delivered again: the events that concern the endpoint, after one cursor and up to the other. */
  replay(id: WebhookId, { event_id, after, until }: WebhookReplay): { after: string; until: string } {
    const { store, seqOf } = this.#ports
    this.#enabled(id)
    const from = event_id === undefined ? seqOf(after ?? "0") : seqOf(event_id) - 1
    const to = event_id !== undefined ? from + 1 : until === undefined ? store.lastSeq() : seqOf(until)
    if (to > from) store.addReplay(id, from, to)
    this.#ports.changed()
    return { after: formatCursor(from), until: formatCursor(to) }
  }

  async signersOf({ id, keys }: WebhookRow, now: number): Promise<readonly Signer[]> {
    const inForce = keys.filter(({ until_ms }) => until_ms === null || until_ms > now)
    return Promise.all(inForce.map((one) => this.#signer(id, one)))
  }

  async #signer(id: WebhookId, keys: WebhookKeys): Promise<Signer> {
    const known = this.#signers.get(keys.sealed)
    if (known) return known
    const signer = await signerOf(await this.#open(id, keys))
    this.#signers.set(keys.sealed, signer)
    return signer
  }

  async #newKeys(id: WebhookId): Promise<WebhookKeys> {
    const { keys, public_key } = await makeKeys()
    return { sealed: await this.#ports.sealer.seal(id, JSON.stringify(keys)), public_key, until_ms: null }
  }

  async #open(id: WebhookId, keys: WebhookKeys): Promise<SigningKeys> {
    const plain = await this.#ports.sealer.unseal(id, keys.sealed)
    if (plain === undefined)
      throw new AppError("internal", "The webhook's keys cannot be read: the platform's secret has changed.")
    return JSON.parse(plain) as SigningKeys
  }

  async #withSecret(row: WebhookRow): Promise<WebhookSecret> {
    const [current, previous] = row.keys
    if (current === undefined) throw new Error(`${row.id} has no keys`)
    const secret = shownSecret(await this.#open(row.id, current))
    return { webhook: viewOf(row), secret, previous_until: isoOrNull(previous?.until_ms ?? null) }
  }

  #row(id: WebhookId): WebhookRow {
    const row = this.#ports.store.get(id)
    if (row === undefined) throw new AppError("not_found", `You have no webhook ${id}.`)
    return row
  }

  #enabled(id: WebhookId): void {
    const { disabled_reason } = this.#row(id)
    if (disabled_reason !== null)
      throw new AppError("action_not_allowed", `The webhook is disabled (${disabled_reason}) Enable it first.`)
  }

  #refuse(url: string): void {
    const refusal = refusedDestination(url, this.#ports.allowed)
    if (refusal !== undefined)
      throw new AppError("invalid_field", `url ${refusal}.`, { errors: [{ pointer: "/url", message: refusal }] })
  }
}

const viewOf = (row: WebhookRow): Webhook =>
  Webhook.parse({
    id: row.id,
    url: row.url,
    types: row.types,
    labels: row.labels,
    description: row.description,
    enabled: row.disabled_reason === null,
    disabled_reason: row.disabled_reason,
    public_key: shownPublicKey(row.keys[0]?.public_key ?? ""),
    failing_since: isoOrNull(row.failing_since_ms),
    last_success_at: isoOrNull(row.last_success_ms),
    created_at: iso(row.created_at_ms),
  })

const attemptView = ({ at_ms, status_code, error, latency_ms, answer }: AttemptRow) => ({
  at: iso(at_ms),
  status_code,
  error,
  latency_ms,
  answer,
})
