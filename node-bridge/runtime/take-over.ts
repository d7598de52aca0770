/** What an earlier bridge left running and this one goes on with: its image, disk, devices, namespace and network are in use. */
import type { RunId } from "../../schema/ids.ts"
import type { Cgroups } from "./cgroups.ts"
import type { DeviceRegistry } from "../device/registry.ts"
import { readRecord } from "./host-record.ts"
import type { HostRecord } from "./host-record.ts"
import { letGoOn } from "./log-pace.ts"
import { runPaths } from "./paths.ts"
import type { HostPaths } from "./paths.ts"
import type { Parts } from "./preparation.ts"
import { isAlive } from "./process-identity.ts"
import { RUNTIMES } from "./runtimes.ts"

export interface TakeOverHost {
  readonly host: HostPaths
  readonly bootId: string
  readonly parts: Parts
  readonly cgroups: Cgroups
  readonly devices: DeviceRegistry
}

/**
 * Called once, before any verb. Answers the records of those that live. A run of which any process is left, be it one that
 * was created and never let go, keeps what it has until it is released.
 */
export async function takeOver(on: TakeOverHost, runIds: readonly RunId[]): Promise<HostRecord[]> {
  const { parts, devices, cgroups } = on
  const known = runIds.flatMap((runId) => recordOfThisBoot(on, runId))
  const live = known.flatMap((record) => (record.init && isAlive(record.init) ? [{ ...record, init: record.init }] : []))
  const alive = new Set(live.map(({ run_id }) => run_id))
  const held = known.filter(({ run_id }) => alive.has(run_id) || cgroups.processes(run_id).length > 0)
  for (const record of held) {
    parts.images.retain(record.image_digest, record.run_id)
    devices.adopt(record.run_id, record.devices)
    parts.processors.adopt(record.run_id, record.limits.cpus, record.processors)
  }
  for (const record of live) if (record.identity) await parts.identities.open(record, runPaths(on.host, record.run_id).identity)
  const ofTenants = live.filter(({ runtime }) => RUNTIMES[runtime].userNamespace === "tenant")
  await parts.namespaces.adopt(ofTenants.map(({ tenant_id, init }) => ({ tenantId: tenant_id, init })))
  await parts.disks.recover(held.map(({ run_id }) => run_id))
  await parts.network.recover(
    live.map(({ run_id, tenant_id, network, names, address, init }) => ({
      runId: run_id,
      tenantId: tenant_id,
      network,
      names,
      address,
      pid: init.pid,
    })),
  )
  return live
}

function recordOfThisBoot({ host, bootId }: TakeOverHost, runId: RunId): HostRecord[] {
  const record = readRecord(runPaths(host, runId).record)
  if (record?.boot_id !== bootId) return []
  if (record.monitor) letGoOn(record.monitor) // first of all: what has ended is told by a monitor that runs
  return [record]
}
