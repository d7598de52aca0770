/**
 * How much of the name server one tenant may take: questions a second, and questions that wait for an answer from outside.
 * The packet filter has already dropped packets beyond its own rate; but one packet of a TCP stream may carry hundreds of
 * questions. Pure: the clock is the caller's, in milliseconds.
 */
import type { TenantId } from "../../schema/ids.ts"

export interface BudgetLimits {
  readonly perSecond: number
  /** After a pause. */
  readonly atOnce: number
  /** Waiting for an answer from outside, of one tenant, and of all. */
  readonly waiting: number
  readonly waitingOfAll: number
}

export const BUDGET: BudgetLimits = { perSecond: 500, atOnce: 500, waiting: 64, waitingOfAll: 1_024 }

interface Account {
  tokens: number
  at: number
  waiting: number
}

export class DnsBudget {
  readonly #limits: BudgetLimits
  readonly #accounts = new Map<TenantId, Account>()
  #waiting = 0

  constructor(limits: BudgetLimits = BUDGET) {
    this.#limits = limits
  }

  #account(tenantId: TenantId, now: number): Account {
    const { perSecond, atOnce } = this.#limits
    const known = this.#accounts.get(tenantId) ?? { tokens: atOnce, at: now, waiting: 0 }
    known.tokens = Math.min(atOnce, known.tokens + ((now - known.at) * perSecond) / 1_000)
    known.at = now
    this.#accounts.set(tenantId, known)
    return known
  }

  /** Whether the tenant may ask one more question now. */
  ask(tenantId: TenantId, now: number): boolean {
    const account = this.#account(tenantId, now)
    if (account.tokens < 1) return false
    account.tokens -= 1
    return true
  }

  /** Whether one more question of the tenant's may go outside; `done` gives the place back. */
  begin(tenantId: TenantId, now: number): boolean {
    const account = this.#account(tenantId, now)
    if (account.waiting >= this.#limits.waiting || this.#waiting >= this.#limits.waitingOfAll) return false
    account.waiting += 1
    this.#waiting += 1
    return true
  }

  done(tenantId: TenantId): void {
    const account = this.#accounts.get(tenantId)
    if (account === undefined || account.waiting === 0) return
    account.waiting -= 1
    this.#waiting -= 1
  }

  /** Forgets tenants that have been quiet for long enough to have everything again. */
  prune(now: number): void {
    const { perSecond, atOnce } = this.#limits
    for (const [tenantId, { at, waiting }] of this.#accounts) {
      if (waiting === 0 && (now - at) * perSecond >= atOnce * 1_000) this.#accounts.delete(tenantId)
    }
  }
}
