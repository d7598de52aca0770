/**
 * What one attempt makes of a delivery and of its endpoint. Pure.
 *
 * A delivery that failed is tried again on the schedule of Standard Webhooks. Those behind it go on, in order, while the
 * endpoint answers at all; once it has failed several times in a row they wait, but for one a minute that finds out whether
 * it is back. So one event that a receiver cannot stomach holds up nothing, and a receiver that is down is left in peace.
 */
import { DELIVERY_TIMEOUT_SECONDS } from "../../../schema/webhooks.ts"

/** Seconds from one attempt to the next (Standard Webhooks, "Deliverability and reliability"): ten attempts over 75 hours. */
export const RETRY_SECONDS = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400] as const
/** Spreads the retries of what failed together. */
const JITTER = 0.2
/** So many in a row, and the endpoint counts as down. */
const DOWN_AFTER = 3
const PROBE_MS = 60_000
/** More patience than this no receiver can ask for. */
const MAX_RETRY_AFTER_SECONDS = 86_400
/** Answers that ask us to slow down (Standard Webhooks). */
const THROTTLING: ReadonlySet<number> = new Set([429, 502, 504])
export const TIMEOUT_MS = DELIVERY_TIMEOUT_SECONDS * 1000

export type Outcome =
  | { readonly kind: "answered"; readonly status_code: number; readonly retry_after_seconds: number | null }
  /** No answer; the error says why. */
  | { readonly kind: "unanswered"; readonly error: string }

export interface Tried {
  readonly tries: number
  readonly first_attempt_ms: number
}

export interface Health {
  readonly failures: number
  readonly failing_since_ms: number | null
  readonly hold_until_ms: number
  readonly last_attempt_ms: number | null
  readonly last_success_ms: number | null
}

export interface Verdict {
  readonly state: "pending" | "delivered" | "failed"
  readonly next_attempt_ms: number | null
  readonly health: Health
  /** Why the endpoint is to be disabled; null when it is not. */
  readonly disable: string | null
}

/** Only 2xx is success; a redirect is a failure. */
export const succeeded = (outcome: Outcome): boolean =>
  outcome.kind === "answered" && outcome.status_code >= 200 && outcome.status_code < 300

/** `tried` is before this attempt. `random` lies in [0, 1). */
export function judge(outcome: Outcome, tried: Tried, before: Health, now: number, random: number): Verdict {
  if (succeeded(outcome)) {
    const health = { failures: 0, failing_since_ms: null, hold_until_ms: 0, last_attempt_ms: now, last_success_ms: now }
    return { state: "delivered", next_attempt_ms: null, health, disable: null }
  }
  const failing_since_ms = before.failing_since_ms ?? now
  const asked = outcome.kind === "answered" ? Math.min(outcome.retry_after_seconds ?? 0, MAX_RETRY_AFTER_SECONDS) * 1000 : 0
  const scheduled = RETRY_SECONDS[tried.tries]
  const wait = scheduled === undefined ? null : Math.max(scheduled * 1000 * (1 + JITTER * (2 * random - 1)), asked)
  const throttles = outcome.kind === "answered" && THROTTLING.has(outcome.status_code)
  const hold = throttles ? Math.max(asked, RETRY_SECONDS[0] * 1000) : asked
  const health = {
    failures: before.failures + 1,
    failing_since_ms,
    hold_until_ms: hold > 0 ? Math.max(before.hold_until_ms, now + hold) : before.hold_until_ms,
    last_attempt_ms: now,
    last_success_ms: before.last_success_ms,
  }
  if (outcome.kind === "answered" && outcome.status_code === 410)
    return { state: "failed", next_attempt_ms: null, health, disable: "The receiver answered 410 Gone." }
  if (wait !== null) return { state: "pending", next_attempt_ms: Math.round(now + wait), health, disable: null }
  const neverBetween = failing_since_ms <= tried.first_attempt_ms
  const disable = neverBetween ? "Every attempt failed for as long as one event is tried again." : null
  return { state: "failed", next_attempt_ms: null, health, disable }
}

/** When the next event may be tried for the first time; a retry needs only `hold_until_ms`. */
export function freshFrom({ failures, last_attempt_ms, hold_until_ms }: Health): number {
  return failures < DOWN_AFTER ? hold_until_ms : Math.max(hold_until_ms, (last_attempt_ms ?? 0) + PROBE_MS)
}

/** Seconds or an HTTP date (RFC 9110, section 10.2.3); null when it is neither. */
export function retryAfterSeconds(header: string | null, now: number): number | null {
  if (header === null) return null
  if (/^\d{1,9}$/.test(header)) return Number(header)
  const at = Date.parse(header)
  return Number.isNaN(at) ? null : Math.max(0, Math.ceil((at - now) / 1000))
}
