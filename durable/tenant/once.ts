/**
 * Idempotency keys. The key's row is written in the transaction of the change itself, its answer after the call is done;
 * so a repeat never does the thing twice, and after a crash in between it is answered with the container as it is now.
 */
import { AppError } from "../../schema/errors.ts"
import type { ContainerId } from "../../schema/ids.ts"
import type { Clock } from "../shared/ports.ts"
import type { Answer, Call } from "../shared/rpc.ts"
import { idempotencyExpiry } from "./retention.ts"
import type { Answers, TenantStore } from "./store.ts"

export interface Work<T extends Answers> {
  readonly status: number
  /** Makes the change; calls `remember` inside its transaction with the container that it is about, and the answer if it is known. */
  run(remember: (id: ContainerId, answer?: T) => void): Promise<T>
  /** What a repeat is told when the first call died before its answer was known. */
  again(id: ContainerId): T
}

export class Once {
  readonly #store: TenantStore
  readonly #clock: Clock
  /** Keys whose first call is still under way. In memory: if the object dies, so do those calls. */
  readonly #running = new Set<string>()

  constructor(store: TenantStore, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** The fingerprint tells calls apart, so a kept answer is of the kind that this call gives. */
  async answer<T extends Answers>(call: Call, work: Work<T>): Promise<Answer<T>> {
    const { idempotency } = call
    if (idempotency === null) return { status: work.status, body: await work.run(() => {}), replayed: false }
    const { key, fingerprint } = idempotency
    const known = this.#store.idempotency(call.subject, key)
    if (known && known.fingerprint !== fingerprint) {
      throw new AppError(
        "idempotency_mismatch",
        "This Idempotency-Key was used with another request. Use a new key for a new request.",
      )
    }
    const place = `${call.subject}\n${key}`
    if (this.#running.has(place)) {
      throw new AppError(
        "idempotency_in_progress",
        "The first request with this Idempotency-Key is still running. Repeat this one shortly.",
      )
    }
    if (known) {
      const kept = known.answer as T | null
      return { status: known.status, body: kept ?? work.again(known.container_id), replayed: true }
    }

    this.#running.add(place)
    try {
      const expires_at_ms = idempotencyExpiry(this.#clock.now())
      let row: Parameters<TenantStore["putIdempotency"]>[0] | undefined
      const body = await work.run((container_id, answer = undefined) => {
        row = {
          subject: call.subject,
          key,
          fingerprint,
          container_id,
          status: work.status,
          answer: answer ?? null,
          expires_at_ms,
        }
        this.#store.putIdempotency(row)
      })
      if (row && row.answer === null) this.#store.putIdempotency({ ...row, answer: body })
      return { status: work.status, body, replayed: false }
    } finally {
      this.#running.delete(place)
    }
  }
}
