/** A tenant, a cell and the objects behind them in real workerd, made anew for each test by new ids. */
import { env } from "cloudflare:workers"
import type { CellId, TenantId } from "../../schema/ids.ts"
import { type Env, type Peers, peersOf } from "../../durable/shared/ports.ts"
import type { Call, Caller, TenantRpc } from "../../durable/shared/rpc.ts"
import { Policy, Quota } from "../../schema/api.ts"
import { TENANT_SCOPES } from "../../schema/tokens.ts"
import { anId } from "./factories.ts"
import { FakeNode, type FakeNodeOptions } from "./fake-node.ts"

const bindings = env as unknown as Env

export const aCaller = (over: Partial<Caller> = {}): Caller => ({
  subject: "alice",
  token_id: anId("tok"),
  token_chain: [],
  scopes: TENANT_SCOPES,
  details: null,
  expires_at_ms: Date.now() + 3600_000,
  proof: null,
  request_id: anId("req"),
  operation: "test",
  ...over,
})

const READS = ["dryRun", "getContainer", "listContainers", "wait", "locate", "listEvents", "followEvents"] as const
type Read = (typeof READS)[number]
type Rest<M extends Read> = Parameters<TenantRpc[M]> extends [Caller, ...infer R] ? R : never
type OwnersTenant = Omit<TenantRpc, Read> & { [M in Read]: (...rest: Rest<M>) => ReturnType<TenantRpc[M]> }

/** A tenant's object as its owner meets it: read with a token that is about everything. */
function asOwner(tenant: TenantRpc): OwnersTenant {
  const reads = READS.map((name) => {
    const read = (...rest: unknown[]) => (tenant[name] as (...all: unknown[]) => unknown)(aCaller(), ...rest)
    return [name, read] as const
  })
  const known = new Map<string | symbol, unknown>(reads)
  return new Proxy(tenant, { get: (of, name) => known.get(name) ?? of[name as keyof TenantRpc] }) as unknown as OwnersTenant
}

/** The objects as they meet each other. */
export const rawPeers: Peers = peersOf(bindings)
export const peers = { ...rawPeers, tenant: (id: TenantId) => asOwner(rawPeers.tenant(id)) }

export const stubs = {
  tenant: (id: string) => bindings.TENANT.get(bindings.TENANT.idFromName(id)),
  cell: (id: string) => bindings.CELL.get(bindings.CELL.idFromName(id)),
  node: (id: string) => bindings.NODE.get(bindings.NODE.idFromName(id)),
}

export const aCall = (key?: string, fingerprint = "f"): Call => ({
  ...aCaller(),
  idempotency: key === undefined ? null : { key, fingerprint },
})

export async function aControlPlane(settings: { quota?: Partial<Quota>; policy?: Partial<Policy>; cells?: CellId[] } = {}) {
  const tenantId: TenantId = anId("ten")
  const cellId = settings.cells?.[0] ?? anId("cel")
  const tenant = peers.tenant(tenantId)
  const quota = Quota.parse(settings.quota ?? {})
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
