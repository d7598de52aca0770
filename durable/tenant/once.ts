/**
 * Idempotency keys. The key's row is written in the transaction of the change itself, its answer after the call is done;
 * so a repeat never does the thing twice, and after a crash in between it is answered with the container as it is now.
 */
import type { Container } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import type { ContainerId } from "../../schema/ids.ts"
import type { Clock } from "../shared/ports.ts"
import type { Answer, Call } from "../shared/rpc.ts"
import { idempotencyExpiry } from "./retention.ts"
import type { TenantStore } from "./store.ts"

export interface Work {
  readonly status: number
  /** Makes the change; calls `remember` inside its transaction with the container that it is about. */
  run(remember: (id: ContainerId) => void): Promise<Container>
}

export class Once {
  readonly #store: TenantStore
  readonly #clock: Clock
  readonly #render: (id: ContainerId) => Container
  /** Keys whose first call is still under way. In memory: if the object dies, so do those calls. */
  readonly #running = new Set<string>()

  constructor(store: TenantStore, clock: Clock, render: (id: ContainerId) => Container) {
    this.#store = store
    this.#clock = clock
    this.#render = render
  }

  async answer(call: Call, work: Work): Promise<Answer<Container>> {
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
    if (known) return { status: known.status, body: known.answer ?? this.#render(known.container_id), replayed: true }

    this.#running.add(place)
    try {
      const expires_at_ms = idempotencyExpiry(this.#clock.now())
      let row: Parameters<TenantStore["putIdempotency"]>[0] | undefined
      const body = await work.run((container_id) => {
        row = { subject: call.subject, key, fingerprint, container_id, status: work.status, answer: null, expires_at_ms }
        this.#store.putIdempotency(row)
      })
      if (row) this.#store.putIdempotency({ ...row, answer: body })
      return { status: work.status, body, replayed: false }
    } finally {
      this.#running.delete(place)
    }
  }
}
