/** Watches what objects write of bookings and quotas, and tells the recorder: at every point, not only where a test looks. */
import { vi } from "vitest"
import { CellStore } from "../../../durable/cell/store.ts"
import { TenantStore } from "../../../durable/tenant/store.ts"
import type { CellId, NodeId, RunId, TenantId } from "../../../schema/ids.ts"
import type { Amount, Recorder } from "../../support/history.ts"

export function watchBooks(recorder: Recorder, cellOf: (node: NodeId) => CellId): void {
  const { reserve, release, forgetNode } = CellStore.prototype
  /** Where each run is booked; a node may move to another cell, its bookings do not. */
  const booked = new Map<RunId, { readonly cell: CellId; readonly node: NodeId }>()
  const credited = (run: RunId) => {
    const at = booked.get(run)
    booked.delete(run)
    if (at !== undefined) recorder.add({ kind: "credited", run, cell: at.cell })
  }
  vi.spyOn(CellStore.prototype, "reserve").mockImplementation(function (this: CellStore, rows) {
    reserve.call(this, rows)
    for (const { run_id: run, node_id: node, cpus, memory_bytes } of rows) {
      const cell = cellOf(node)
      booked.set(run, { cell, node })
      recorder.add({ kind: "reserved", run, node, cell, amount: { cpus, memory_bytes } })
    }
  })
  vi.spyOn(CellStore.prototype, "release").mockImplementation(function (this: CellStore, runs) {
    const rows = release.call(this, runs)
    for (const { run_id } of rows) credited(run_id)
    return rows
  })
  vi.spyOn(CellStore.prototype, "forgetNode").mockImplementation(function (this: CellStore, id) {
    forgetNode.call(this, id)
    for (const [run, { node }] of booked) if (node === id) credited(run)
  })

  const { transaction } = TenantStore.prototype
  /** What each tenant was ever seen to count at the most; less is no news. */
  const most = new Map<string, { containers: number; amount: Amount }>()
  const tenants = new WeakMap<TenantStore, TenantId>()
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
      recorder.add({ kind: "used", tenant, containers, amount: { cpus, memory_bytes } })
    }
    return result
  })
}
