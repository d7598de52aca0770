/** A tenant, a cell and the objects behind them in real workerd, made anew for each test by new ids. */
import { env } from "cloudflare:workers"
import type { CellId, TenantId } from "../../schema/ids.ts"
import { type Env, peersOf } from "../../durable/shared/ports.ts"
import type { Call } from "../../durable/shared/rpc.ts"
import { Policy, type Quota } from "../../schema/api.ts"
import { anId } from "./factories.ts"
import { FakeNode, type FakeNodeOptions } from "./fake-node.ts"

const bindings = env as unknown as Env
export const peers = peersOf(bindings)

export const stubs = {
  tenant: (id: string) => bindings.TENANT.get(bindings.TENANT.idFromName(id)),
  cell: (id: string) => bindings.CELL.get(bindings.CELL.idFromName(id)),
  node: (id: string) => bindings.NODE.get(bindings.NODE.idFromName(id)),
}

export const aCall = (key?: string, fingerprint = "f"): Call => ({
  subject: "alice",
  request_id: anId("req"),
  idempotency: key === undefined ? null : { key, fingerprint },
})

export async function aControlPlane(settings: { quota?: Partial<Quota>; policy?: Partial<Policy>; cells?: CellId[] } = {}) {
  const tenantId: TenantId = anId("ten")
  const cellId = settings.cells?.[0] ?? anId("cel")
  const tenant = peers.tenant(tenantId)
  const quota = { containers: 1000, cpus: 1000, memory_bytes: 1024 ** 4, ...settings.quota }
  const policy = Policy.parse(settings.policy ?? {})
  await tenant.configure({ tenant_id: tenantId, name: "acme", quota, policy, revision: 1, cells: settings.cells ?? [cellId] })
  const node = (options: Partial<FakeNodeOptions> = {}) => FakeNode.connect({ namespace: bindings.NODE, cellId, ...options })
  return {
    tenantId,
    cellId,
    tenant,
    cell: peers.cell(cellId),
    node,
    tenantStub: stubs.tenant(tenantId),
    cellStub: stubs.cell(cellId),
  }
}

/** The error of a call that must be refused, as its own properties. */
export async function refusal(call: () => Promise<unknown>): Promise<{ code: unknown; message: string }> {
  try {
    await call()
  } catch (error) {
    if (error instanceof Error) return { code: "code" in error ? error.code : undefined, message: error.message }
    throw error
  }
  throw new Error("The call was not refused.")
}
