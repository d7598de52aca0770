/** Who is on this node's network: what the name server and the packet filter know of runs, by address and by tenant. Pure. */
import type { RunId, TenantId } from "../../schema/ids.ts"
import type { Egress } from "./egress.ts"

export interface Resident {
  readonly runId: RunId
  readonly tenantId: TenantId
  readonly address: string
  /** Names by which the tenant's other containers find it, lower-case. */
  readonly names: readonly string[]
  readonly egress: Egress
}

export class Residents {
  readonly #byRun = new Map<RunId, Resident>()
  readonly #byAddress = new Map<string, Resident>()
  /** Of one name the latest is the answer: a container's new run may come before its old one has quite gone. */
  readonly #byName = new Map<string, Resident[]>()
  readonly #numbers = new Map<TenantId, number>()
  #lastNumber = 0

  /** In place of what was known of the run. */
  add(resident: Resident): void {
    this.remove(resident.runId)
    this.#byRun.set(resident.runId, resident)
    this.#byAddress.set(resident.address, resident)
    for (const name of resident.names) {
      const key = keyOf(resident.tenantId, name)
      this.#byName.set(key, [...(this.#byName.get(key) ?? []), resident])
    }
  }

  remove(runId: RunId): void {
    const resident = this.#byRun.get(runId)
    if (resident === undefined) return
    this.#byRun.delete(runId)
    if (this.#byAddress.get(resident.address) === resident) this.#byAddress.delete(resident.address)
    for (const name of resident.names) {
      const key = keyOf(resident.tenantId, name)
      const rest = (this.#byName.get(key) ?? []).filter((one) => one !== resident)
      if (rest.length === 0) this.#byName.delete(key)
      else this.#byName.set(key, rest)
    }
  }

  at(address: string): Resident | undefined {
    return this.#byAddress.get(address)
  }

  /** The address of the tenant's container of that name; another tenant's container of the same name is nobody. */
  addressOf(tenantId: TenantId, name: string): string | undefined {
    return this.#byName.get(keyOf(tenantId, name.toLowerCase()))?.at(-1)?.address
  }

  /** The tenant's number in the packet filter: above 0, nobody else's, and the same for as long as this object lives. */
  numberOf(tenantId: TenantId): number {
    const number = this.#numbers.get(tenantId) ?? ++this.#lastNumber
    this.#numbers.set(tenantId, number)
    return number
  }
}

/** Neither part has a space. */
const keyOf = (tenantId: TenantId, name: string) => `${tenantId} ${name}`
