/** A tenant's records, valid by default. */
import type { ContainerRow, RunRow } from "../../durable/tenant/rows.ts"
import type { Group } from "../../durable/tenant/group.ts"
import { newContainer } from "../../durable/tenant/plan.ts"
import type { ContainerCreate } from "../../schema/container.ts"
import type { z } from "zod"
import { aCreate, anId } from "./factories.ts"

type Changes = Partial<ContainerRow> & { create?: Partial<z.input<typeof ContainerCreate>> }

export function aContainerRow({ create, ...changes }: Changes = {}): ContainerRow {
  const { name, start: _start, ...spec } = aCreate(create)
  const { container } = newContainer({ id: anId("ctr"), name: name ?? null, spec, desired: "running" }, 1_000)
  return { ...container, next_run_at_ms: null, ...changes }
}

export const aRunRow = (container: ContainerRow, changes: Partial<RunRow> = {}): RunRow => ({
  id: anId("run"), container_id: container.id, attempt: 1, created_at_ms: 1_000, cell_id: anId("cel"), node_id: anId("nod"), region: null,
  devices: null, features: null, policy: null, wish_network: container.spec.network,
  state: "running", since_ms: 1_000, revision: 1, paused: false, cut_off: false, evacuating: null, present: true, reason: null, exit: null, image_digest: null,
  started_at_ms: 1_000, finished_at_ms: null, timings: {}, wish_desired: "running", wish_paused: false,
  wish_stop_timeout_seconds: null, assign_due: false, release_due: false, retry_at_ms: null, ...changes,
}) // prettier-ignore

/** A container with one run. */
export function aGroup(container: Changes = {}, run: Partial<RunRow> = {}): Group & { run: RunRow } {
  const row = aContainerRow(container)
  const only = aRunRow(row, run)
  return { container: { ...row, latest_run_id: only.id, status: "running", active: true }, runs: [only], run: only }
}
