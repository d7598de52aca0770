/**
 * How a node is emptied: its tenants are asked to take their runs elsewhere, told when the deadline has come, and told again
 * until nothing is left; what a tenant's object leaves running even then is stopped without it. Pure.
 */
import { STOP_MARGIN_MS } from "../../schema/lifecycle.ts"
import type { Drain } from "../../schema/tables/node.ts"

/** Tenants hear of what is left this often: a run may have been handed over while its tenant was told of all others. */
export const REMIND_MS = 15_000
/** A tenant's object that has not told a run to stop by then is taken for stuck. */
export const FORCE_AFTER_MS = STOP_MARGIN_MS

/** A drain that is asked for again keeps its beginning and gets the new deadline. */
export const begun = (known: Drain | null, live: number, deadline_ms: number, now: number): Drain => ({
  since_ms: known?.since_ms ?? now,
  deadline_ms,
  runs_at_start: known?.runs_at_start ?? live,
  due: dueAt(deadline_ms, now),
})

/** What tenants of runs that are here now must be told. */
const dueAt = (deadline_ms: number, now: number): "begun" | "over" => (now >= deadline_ms ? "over" : "begun")

/** It is time to tell them, or runs came that had been placed before the node was cordoned. */
export const owing = (drain: Drain, now: number): Drain => ({ ...drain, due: dueAt(drain.deadline_ms, now) })

export const mustForce = (drain: Drain, now: number): boolean => now >= drain.deadline_ms + FORCE_AFTER_MS

/** When to look again; null when nothing is left to do. */
export function nextLook(drain: Drain | null, live: number, now: number): number | null {
  if (drain === null || live === 0) return null
  const reminder = now + REMIND_MS
  return now < drain.deadline_ms ? Math.min(drain.deadline_ms, reminder) : reminder
}
