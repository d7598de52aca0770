/**
 * How often one principal may call: so many calls in a minute that begins with its first. Counted in the isolate that serves
 * it, so that no call waits for a count: a principal that reaches several isolates at once may do as much in each. Pure but for
 * its memory.
 */

export const WINDOW_SECONDS = 60
/** Principals counted at once; beyond it those whose minute began first are forgotten, and begin a new one. */
const MAX_PRINCIPALS = 10_000

export interface Allowance {
  readonly allowed: boolean
  readonly remaining: number
  /** Until the minute is over. */
  readonly resetSeconds: number
}

export class RateLimiter {
  readonly quota: number
  readonly #minutes = new Map<string, { readonly sinceMs: number; calls: number }>()

  /** `quota`: calls in a minute. */
  constructor(quota: number) {
    this.quota = quota
  }

  /** Counts one call. */
  take(principal: string, nowMs: number): Allowance {
    let minute = this.#minutes.get(principal)
    if (minute === undefined || nowMs - minute.sinceMs >= WINDOW_SECONDS * 1000) {
      minute = { sinceMs: nowMs, calls: 0 }
      this.#minutes.delete(principal) // so that the order of the map is the order of the minutes
      this.#minutes.set(principal, minute)
      const oldest = this.#minutes.size > MAX_PRINCIPALS ? this.#minutes.keys().next().value : undefined
      if (oldest !== undefined) this.#minutes.delete(oldest)
    }
    minute.calls += 1
    const resetSeconds = Math.max(1, Math.ceil(WINDOW_SECONDS - (nowMs - minute.sinceMs) / 1000))
    return { allowed: minute.calls <= this.quota, remaining: Math.max(0, this.quota - minute.calls), resetSeconds }
  }
}

/** draft-ietf-httpapi-ratelimit-headers-11: the policy, and what is left of it. */
export const rateLimitHeaders = (quota: number, { remaining, resetSeconds }: Allowance): Record<string, string> => ({
  "RateLimit-Policy": `"principal";q=${quota};w=${WINDOW_SECONDS}`,
  RateLimit: `"principal";r=${remaining};t=${resetSeconds}`,
})
