/**
 * Each call that changes containers is done once, and leaves one entry in the audit log. An idempotency key's row is written in the transaction of the change itself, its answer after the call is done;
 * so a repeat never does the thing twice, and after a crash in between it is answered with the container as it is now.
 */
import { AppError, asAppError } from "../../schema/errors.ts"
import type { ContainerId } from "../../schema/ids.ts"
import type { Clock } from "../shared/ports.ts"
import type { Answer, Call } from "../shared/rpc.ts"
import type { AuditLog } from "./audit-log.ts"
import { idempotencyExpiry } from "./retention.ts"
import type { Answers, TenantStore } from "./store.ts"

export interface Work<T extends Answers> {
  readonly status: number
  /** What the caller says it is about; null for what it makes anew. */
  readonly target: string | null
  /** Makes the change; calls `remember` inside its transaction with the container that it is about, and the answer if it is known. */
  run(remember: (id: ContainerId, answer?: T) => void): Promise<T>
  /** What a repeat is told when the first call died before its answer was known. */
  again(id: ContainerId): T
}

export class Once {
  readonly #store: TenantStore
  readonly #clock: Clock
  readonly #audit: AuditLog
  /** Keys whose first call is still under way. In memory: if the object dies, so do those calls. */
  readonly #running = new Set<string>()

  constructor(store: TenantStore, clock: Clock, audit: AuditLog) {
    this.#store = store
    this.#clock = clock
    this.#audit = audit
  }

  /** The fingerprint tells calls apart, so a kept answer is of the kind that this call gives. */
  async answer<T extends Answers>(call: Call, work: Work<T>): Promise<Answer<T>> {
    const { idempotency } = call
    if (idempotency === null) return { status: work.status, body: await this.#run(call, work, () => {}), replayed: false }
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
      const body = await this.#run(call, work, (container_id, answer = undefined) => {
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

  /** A refusal is told as well; a failure of ours is not the caller's deed. */
  async #run<T extends Answers>(call: Call, work: Work<T>, remember: Parameters<Work<T>["run"]>[0]): Promise<T> {
    try {
      return await work.run((id, answer = undefined) => {
        this.#audit.add(call, id, "ok")
        remember(id, answer)
      })
    } catch (error) {
      const refusal = asAppError(error)
      if (refusal) this.#audit.add(call, work.target, refusal.code)
      throw error
    }
  }
}
