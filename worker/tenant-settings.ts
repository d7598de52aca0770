/**
 * Tells TenantObjects what the directory has of them: quota, policy, the list of cells. The directory is written first and keeps
 * who has yet to hear, so a call that died half-way is finished by the next one, or when this worker starts anew. An object takes
 * no settings older than its own, so two tellers do no harm.
 */
import type { TenantConfig } from "../durable/shared/rpc.ts"
import type { TenantId } from "../schema/ids.ts"
import type { Services } from "./env.ts"

/** Told at once; each wakes an object. */
const TOGETHER = 20

type Tellers = Pick<Services, "directory" | "peers">

/** @throws when the object did not answer; it stays to be told. */
export async function tellTenant(services: Tellers, id: TenantId): Promise<void> {
  await tell(services, await services.directory.tenantConfig(id))
}

/** Tells all who have yet to hear. Who does not answer now stays to be told, and is not waited for. */
export async function tellTenants(services: Tellers): Promise<void> {
  let after = ""
  while (true) {
    const some = await services.directory.untold(after, TOGETHER)
    const last = some.at(-1)
    if (last === undefined) return
    after = last.tenant_id
    const results = await Promise.allSettled(some.map((config) => tell(services, config)))
    for (const result of results) {
      if (result.status === "rejected") console.error("a tenant could not be told its settings; it will be later", result.reason)
    }
  }
}

async function tell({ directory, peers }: Tellers, config: TenantConfig): Promise<void> {
  await peers.tenant(config.tenant_id).configure(config)
  await directory.tenantTold(config.tenant_id, config.revision)
}
