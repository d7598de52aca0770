/**
 * Carries events to endpoints: at least once, in order for each endpoint, each endpoint on its own so that a slow one delays no
 * other. Where it has come is in SQLite and moves on with the result of an attempt, in one transaction; a crash in between
 * repeats that attempt at worst, with the same `webhook-id`. What goes to whom and when is decided in message.ts and retry.ts.
 */
import type { ContainerId, TenantId, WebhookId } from "../../../schema/ids.ts"
import { MAX_ANSWER_BYTES } from "../../../schema/webhooks.ts"
import type { Clock } from "../../shared/ports.ts"
import type { EventRow } from "../rows.ts"
import { eventView } from "../view.ts"
import { refusedDestination } from "./destination.ts"
import { concerns, messageOf } from "./message.ts"
import { freshFrom, judge, type Outcome, retryAfterSeconds, TIMEOUT_MS } from "./retry.ts"
import { signedHeaders, type Signer } from "./signature.ts"
import type { DeliveryRow, ReplayRow, WebhookRow, WebhookStore } from "./store.ts"

/** Events looked at in one step on the way to the next that concerns an endpoint. */
const SCAN = 500
/** An invocation of an object may make 1,000 requests; the alarm begins the next one. */
const ATTEMPTS_PER_WAKE = 500
/** When the alarm looks after an attempt that should long have ended. */
const GUARD_MS = TIMEOUT_MS + 5_000

export interface CourierPorts {
  readonly store: WebhookStore
  readonly clock: Clock
  /** Where deliveries go out; it refuses what resolves to addresses that are not public, where it can. */
  readonly network: { fetch(url: string, init: RequestInit): Promise<Response> }
  readonly allowed: readonly string[]
  random(): number
  tenantId(): TenantId
  labelsOf(container: ContainerId): Readonly<Record<string, string>> | null
  /** Those that sign now, newest first. */
  signersOf(row: WebhookRow, now: number): Promise<readonly Signer[]>
  /** Writes it into the event log, within the transaction that is under way. */
  addDisabled(id: WebhookId, reason: string, now: number): void
  /** After a commit that wrote an event. */
  told(): void
  background(work: Promise<void>): void
  wakeAt(ms: number | null): void
}

interface Next {
  readonly event: EventRow
  /** Of the attempts before, or of one that is replayed. */
  readonly known: DeliveryRow | undefined
  readonly source: { readonly kind: "fresh" | "retry" } | { readonly kind: "replay"; readonly row: ReplayRow }
}

interface Answer {
  readonly outcome: Outcome
  readonly latency_ms: number
  readonly answer: string
}

export class Courier {
  readonly #ports: CourierPorts
  /** Endpoints that are being spoken to. */
  readonly #busy = new Set<WebhookId>()
  #rows: WebhookRow[] | undefined

  constructor(ports: CourierPorts) {
    this.#ports = ports
  }

  /** The endpoints have changed otherwise than by deliveries. */
  changed(): void {
    this.#rows = undefined
    this.poke()
  }

  /** Something may be due: sees to every endpoint that is not being seen to. Never throws. */
  poke(): void {
    const idle = this.#enabled().filter((row) => !this.#busy.has(row.id))
    if (idle.length === 0) return
    const now = this.#ports.clock.now()
    const due = idle.filter((row) => (this.#wakeOf(row) ?? Infinity) <= now)
    for (const { id } of due) {
      this.#busy.add(id)
      this.#ports.background(this.#see(id))
    }
    this.#ports.wakeAt(this.nextWake())
  }

  nextWake(): number | null {
    const guard = this.#ports.clock.now() + GUARD_MS
    const wakes = this.#enabled().map((row) => (this.#busy.has(row.id) ? guard : this.#wakeOf(row)))
    return wakes.reduce((least, at) => (at === null ? least : Math.min(at, least ?? at)), null)
  }

  #enabled(): WebhookRow[] {
    this.#rows ??= this.#ports.store.all()
    return this.#rows.filter((row) => row.disabled_reason === null)
  }

  #wakeOf(row: WebhookRow): number | null {
    const { store } = this.#ports
    const retry = store.nextRetryMs(row.id)
    const waits = row.seq < store.lastSeq() || store.replay(row.id) !== undefined
    const times = [...(retry === null ? [] : [Math.max(retry, row.hold_until_ms)]), ...(waits ? [freshFrom(row)] : [])]
    return times.length === 0 ? null : Math.min(...times)
  }

  async #see(id: WebhookId): Promise<void> {
    try {
      for (let made = 0; made < ATTEMPTS_PER_WAKE; made++) {
        const row = this.#ports.store.get(id)
        const next = row?.disabled_reason === null ? this.#next(row, made % 2 === 1) : undefined
        if (row === undefined || next === undefined) break
        await this.#attempt(row, next)
      }
    } catch (error) {
      console.error("seeing to an endpoint failed and will be tried again", error)
    } finally {
      this.#busy.delete(id)
      this.#rows = undefined
      this.#ports.wakeAt(this.nextWake())
    }
  }

  /** A retry that is due before anything new; of what is new and what is replayed, each in turn. */
  #next(row: WebhookRow, replayFirst: boolean): Next | undefined {
    const { store, clock } = this.#ports
    const now = clock.now()
    if (row.hold_until_ms > now) return undefined
    for (;;) {
      const retry = store.dueRetry(row.id, now)
      if (retry === undefined) break
      const event = store.event(retry.seq)
      if (event !== undefined) return { event, known: retry, source: { kind: "retry" } }
      store.putDelivery({ ...retry, state: "failed", next_attempt_ms: null }) // the event is past its retention
    }
    if (freshFrom(row) > now) return undefined
    const fresh = () => this.#fresh(row)
    const replayed = () => this.#replayed(row)
    return replayFirst ? (replayed() ?? fresh()) : (fresh() ?? replayed())
  }

  #fresh(row: WebhookRow): Next | undefined {
    const { store } = this.#ports
    let seq = row.seq
    const event = this.#scan(row, seq, Number.MAX_SAFE_INTEGER, (passed) => (seq = passed))
    if (event === undefined && seq > row.seq) this.#write(row.id, { seq })
    return event && { event, known: store.delivery(row.id, event.seq), source: { kind: "fresh" } }
  }

  #replayed(row: WebhookRow): Next | undefined {
    const { store } = this.#ports
    for (;;) {
      const replay = store.replay(row.id)
      if (replay === undefined) return undefined
      const event = this.#scan(row, replay.seq, replay.until_seq, () => {})
      if (event !== undefined) return { event, known: undefined, source: { kind: "replay", row: replay } }
      store.moveReplay(replay, replay.until_seq)
    }
  }

  #scan(row: WebhookRow, after: number, until: number, passed: (seq: number) => void): EventRow | undefined {
    const { store, labelsOf } = this.#ports
    for (let seq = after; ;) {
      const page = store.eventsBetween(seq, until, SCAN)
      for (const event of page) {
        const labels = event.container_id === null ? null : labelsOf(event.container_id)
        if (concerns(row, eventView(event), labels)) return event
      }
      const last = page.at(-1)
      if (last === undefined) return undefined
      seq = last.seq
      passed(seq)
    }
  }

  async #attempt(row: WebhookRow, next: Next): Promise<void> {
    const { store, clock, random, addDisabled, told } = this.#ports
    const { event, known, source } = next
    const at_ms = clock.now()
    const { outcome, latency_ms, answer } = await this.#post(row, event, at_ms)
    const now = clock.now()
    let disabled = false
    store.transaction(() => {
      const current = store.get(row.id)
      if (current === undefined) return
      const tried = { tries: known?.tries ?? 0, first_attempt_ms: known?.first_attempt_ms ?? at_ms }
      const { state, next_attempt_ms, health, disable } = judge(outcome, tried, current, now, random())
      const status_code = outcome.kind === "answered" ? outcome.status_code : null
      const error = outcome.kind === "unanswered" ? outcome.error : null
      const { seq } = event
      const { tries, first_attempt_ms } = tried
      store.putDelivery({
        webhook_id: row.id, seq, state, tries: tries + 1, first_attempt_ms, last_attempt_ms: at_ms, next_attempt_ms,
      }) // prettier-ignore
      store.addAttempt({ webhook_id: row.id, seq, at_ms, status_code, error, latency_ms, answer })
      if (source.kind === "replay") store.moveReplay(source.row, seq)
      disabled = disable !== null && current.disabled_reason === null
      const moved = source.kind === "fresh" ? Math.max(current.seq, seq) : current.seq
      store.put({ ...current, ...health, seq: moved, disabled_reason: current.disabled_reason ?? disable })
      if (disabled && disable !== null) addDisabled(row.id, disable, now)
    })
    if (disabled) told()
  }

  #write(id: WebhookId, change: Partial<WebhookRow>): void {
    const { store } = this.#ports
    const current = store.get(id)
    if (current !== undefined) store.put({ ...current, ...change })
  }

  async #post(row: WebhookRow, event: EventRow, at_ms: number): Promise<Answer> {
    const { network, clock, allowed, signersOf, tenantId } = this.#ports
    const body = JSON.stringify(messageOf(tenantId(), eventView(event)))
    const since = (): number => Math.max(0, clock.now() - at_ms)
    const unanswered = (error: string): Answer => ({ outcome: { kind: "unanswered", error }, latency_ms: since(), answer: "" })
    const refusal = refusedDestination(row.url, allowed)
    if (refusal !== undefined) return unanswered(`The URL ${refusal}.`)
    try {
      const signed = await signedHeaders(await signersOf(row, at_ms), event.id, Math.floor(at_ms / 1000), body)
      const response = await network.fetch(row.url, {
        method: "POST",
        body,
        headers: { "content-type": "application/json", "user-agent": "Berth-Webhooks/1", ...signed },
        redirect: "manual",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      const { status: status_code, headers } = response
      const retry_after_seconds = retryAfterSeconds(headers.get("retry-after"), clock.now())
      const answer = await beginningOf(response)
      return { outcome: { kind: "answered", status_code, retry_after_seconds }, latency_ms: since(), answer }
    } catch (error) {
      return unanswered(saidBy(error))
    }
  }
}

/** A body that breaks off was an answer all the same. */
async function beginningOf(response: Response): Promise<string> {
  const reader = response.body?.getReader()
  if (reader === undefined) return ""
  const decoder = new TextDecoder()
  const bytes = new Uint8Array(MAX_ANSWER_BYTES)
  let held = 0
  try {
    while (held < MAX_ANSWER_BYTES) {
      const { done, value } = await reader.read()
      if (done) break
      const taken = (value as Uint8Array).subarray(0, MAX_ANSWER_BYTES - held)
      bytes.set(taken, held)
      held += taken.length
    }
  } catch {
    // What has come counts.
  }
  reader.cancel().catch(() => {})
  return decoder.decode(bytes.subarray(0, held))
}

/** The runtime tells little of a failed connection, and of a refused address no more than of a name that does not resolve. */
function saidBy(error: unknown): string {
  if (error instanceof Error && error.name === "TimeoutError") return `No answer within ${TIMEOUT_MS / 1000} seconds.`
  const said = error instanceof Error ? error.message : String(error)
  if (/internal error|not permitted/i.test(said))
    return "The name does not resolve, or leads to an address that webhooks may not call."
  return `The connection failed: ${said.slice(0, 200)}`
}
