/** How long a tenant's records are kept, and when the next is due to go. Pure. */
import { EVENT_RETENTION_SECONDS, IDEMPOTENCY_SECONDS, REMOVED_RETENTION_SECONDS } from "../../schema/api.ts"

/** Collecting in strides keeps a busy tenant's alarm from going off for every single record. */
const STRIDE_MS = 10 * 60_000

export const idempotencyExpiry = (now: number) => now + IDEMPOTENCY_SECONDS * 1000

export const retentionBounds = (now: number) => ({
  idempotency: now,
  events: now - EVENT_RETENTION_SECONDS * 1000,
  removed: now - REMOVED_RETENTION_SECONDS * 1000,
})

/** What is still there though it is due (more than one sweep takes, or not given back by its node yet) waits a stride more. */
export function nextCollection(
  oldest: { idempotency: number | null; event: number | null; removed: number | null },
  now: number,
): number | null {
  const times = [
    oldest.idempotency,
    oldest.event === null ? null : oldest.event + EVENT_RETENTION_SECONDS * 1000,
    oldest.removed === null ? null : oldest.removed + REMOVED_RETENTION_SECONDS * 1000,
  ].filter((time) => time !== null)
  return times.length === 0 ? null : (Math.floor(Math.max(Math.min(...times), now) / STRIDE_MS) + 1) * STRIDE_MS
}
