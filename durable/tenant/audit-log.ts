/**
 * A tenant's audit log. An entry is written in the transaction of the change that it tells of; where a call is not one
 * transaction, it is written as begun before and with its end after. The hash is computed without waiting, so that nothing
 * can come between an entry and the one that it is chained to.
 */
import { sha256 } from "@noble/hashes/sha2.js"
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js"
import { AUDIT_GENESIS, AUDIT_RETENTION_SECONDS, type AuditEntry, hashedText } from "../../schema/audit.ts"
import type { Clock } from "../shared/ports.ts"
import type { Caller } from "../shared/rpc.ts"
import type { AuditRow, AuditStore } from "./audit-store.ts"

/** Old entries go once a day. */
const STRIDE_MS = 86_400_000
const RETENTION_MS = AUDIT_RETENTION_SECONDS * 1000

export class AuditLog {
  readonly #store: AuditStore
  readonly #clock: Clock

  constructor(store: AuditStore, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** Within the transaction that is under way, if there is one. */
  add({ subject, token_id, request_id, operation }: Caller, target: string | null, result: string): void {
    const { seq, hash: previous } = this.head()
    const time_ms = this.#clock.now()
    const entry = { seq: seq + 1, time_ms, subject, token_id, request_id, operation, target, result, previous }
    this.#store.add({ ...entry, hash: bytesToHex(sha256(utf8ToBytes(hashedText(viewOf(entry))))) })
  }

  /** The last entry's place and hash. */
  head(): { seq: number; hash: string } {
    const { seq, hash } = this.#store.last() ?? { seq: 0, hash: AUDIT_GENESIS }
    return { seq, hash }
  }

  after(seq: number, limit: number): AuditEntry[] {
    return this.#store.after(seq, limit).map((row) => ({ ...viewOf(row), hash: row.hash }))
  }

  collect(): void {
    this.#store.collect(this.#clock.now() - RETENTION_MS)
  }

  nextWake(): number | null {
    const oldest = this.#store.oldestMs()
    return oldest === null ? null : (Math.floor(Math.max(oldest + RETENTION_MS, this.#clock.now()) / STRIDE_MS) + 1) * STRIDE_MS
  }
}

const viewOf = ({ time_ms, ...row }: Omit<AuditRow, "hash">): Omit<AuditEntry, "hash"> => {
  const { seq, subject, token_id, request_id, operation, target, result, previous } = row
  return { seq, time: new Date(time_ms).toISOString(), subject, token_id, request_id, operation, target, result, previous }
}
