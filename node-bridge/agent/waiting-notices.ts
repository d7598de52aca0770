/**
 * Notices that the platform has not heard. They are bounded, for a platform may be away for long; what is given up `isolation` or a
 * run's end tells too. It is the oldest of whoever has most: no tenant's noise costs another its news.
 */
import type { TenantId } from "../../schema/ids.ts"
import type { Notice } from "../../schema/protocol.ts"

export const MAX_NOTICES = 5_000

export interface WaitingNotice {
  readonly notice: Notice
  readonly tenant: TenantId
}

export class WaitingNotices {
  /** By id, oldest first. */
  readonly #all = new Map<string, WaitingNotice>()
  /** Of each tenant that has any, the ids, oldest first. */
  readonly #ids = new Map<TenantId, Set<string>>()

  get size(): number {
    return this.#all.size
  }

  add(notice: Notice, tenant: TenantId): void {
    this.#all.set(notice.id, { notice, tenant })
    const ids = this.#ids.get(tenant) ?? new Set()
    this.#ids.set(tenant, ids.add(notice.id))
    if (this.#all.size > MAX_NOTICES) this.#giveUpOne()
  }

  /** The oldest, at most so many; they wait no longer. */
  take(most: number): WaitingNotice[] {
    const taken = [...this.#all.values()].slice(0, most)
    for (const { notice } of taken) this.#remove(notice.id)
    return taken
  }

  #giveUpOne(): void {
    const loudest = [...this.#ids.values()].reduce((most, ids) => (ids.size > most.size ? ids : most), new Set<string>())
    const [oldest] = loudest
    if (oldest !== undefined) this.#remove(oldest)
  }

  #remove(id: string): void {
    const waiting = this.#all.get(id)
    if (waiting === undefined) return
    this.#all.delete(id)
    const ids = this.#ids.get(waiting.tenant)
    ids?.delete(id)
    if (ids?.size === 0) this.#ids.delete(waiting.tenant)
  }
}
