/** Watches what objects write of bookings and quotas, and tells the recorder: at every point, not only where a test looks. */
import { vi } from "vitest"
import { CellStore } from "../../../durable/cell/store.ts"
import { TenantStore } from "../../../durable/tenant/store.ts"
import type { Amount, Recorder } from "../../support/history.ts"

/** The most that each tenant was ever seen to count; less is no news. */
export function watchBooks(recorder: Recorder, cellOf: (node: string) => string): void {
  const { reserve, release } = CellStore.prototype
  vi.spyOn(CellStore.prototype, "reserve").mockImplementation(function (this: CellStore, rows) {
    reserve.call(this, rows)
    for (const { run_id: run, node_id: node, cpus, memory_bytes } of rows)
      recorder.add({ kind: "reserved", run, node, cell: cellOf(node) as never, amount: { cpus, memory_bytes } })
  })
  vi.spyOn(CellStore.prototype, "release").mockImplementation(function (this: CellStore, runs) {
    const rows = release.call(this, runs)
    for (const { run_id: run, node_id: node } of rows) recorder.add({ kind: "credited", run, cell: cellOf(node) as never })
    return rows
  })

  const { transaction } = TenantStore.prototype
  const most = new Map<string, { containers: number; amount: Amount }>()
  const tenants = new WeakMap<TenantStore, string>()
  vi.spyOn(TenantStore.prototype, "transaction").mockImplementation(function <T>(this: TenantStore, work: () => T): T {
    const result = transaction.call(this, work) as T
    const tenant = tenants.get(this) ?? this.settings()?.tenant_id
    if (tenant === undefined) return result
    tenants.set(this, tenant)
    const { containers, cpus, memory_bytes } = this.used()
    const before = most.get(tenant) ?? { containers: 0, amount: { cpus: 0, memory_bytes: 0 } }
    if (containers > before.containers || cpus > before.amount.cpus || memory_bytes > before.amount.memory_bytes) {
      const amount = {
        cpus: Math.max(cpus, before.amount.cpus),
        memory_bytes: Math.max(memory_bytes, before.amount.memory_bytes),
      }
      most.set(tenant, { containers: Math.max(containers, before.containers), amount })
      recorder.add({ kind: "used", tenant: tenant as never, containers, amount: { cpus, memory_bytes } })
    }
    return result
  })
}
