/** A tenant's records as decisions see them: types alone, so that they stay free of SQL. */
import type { containers, events, idempotency, runs } from "../../schema/tables/tenant.ts"

export type ContainerRow = typeof containers.$inferSelect
export type RunRow = typeof runs.$inferSelect
export type EventRow = typeof events.$inferSelect
export type IdempotencyRow = typeof idempotency.$inferSelect
