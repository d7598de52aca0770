/** Valid assignments and records of runs; a test changes only what it is about. */
import { randomBytes } from "node:crypto"
import { CAPABILITIES, ContainerCreate } from "../../schema/container.ts"
import { formatId } from "../../schema/ids.ts"
import type { IdOf, IdPrefix } from "../../schema/ids.ts"
import { Assignment } from "../../schema/protocol.ts"
import type { RunSpec } from "../../schema/protocol.ts"
import type { z } from "zod"
import { newRecord } from "../../node-bridge/agent/record.ts"
import type { RunRecord } from "../../node-bridge/agent/record.ts"

/** A run knows nothing of the container's other runs. */
function specOf(create: ContainerCreate): Partial<RunSpec> {
  const { image, command, args, env, workdir, user, labels, resources, stop, profile, read_only, tty, network, seccomp } = create
  return { image, command, args, env, workdir, user, labels, resources, stop, profile, read_only, tty, network, seccomp }
}

/** What a test says of a spec: fields and parts of fields left out are as the API's defaults have them. */
export type SpecChanges = Partial<z.input<typeof RunSpec>>

let made = 0

/** Ids rise in the order in which they are made, as real ones do. */
export function anId<P extends IdPrefix>(prefix: P): IdOf<P> {
  made += 1
  return formatId(prefix, 1_760_000_000_000 + made, randomBytes(10))
}

export function anAssignment(changes: Partial<Omit<Assignment, "spec">> & { spec?: SpecChanges } = {}): Assignment {
  const { spec, ...rest } = changes
  const create = ContainerCreate.parse({ image: "fake.test/any:1" })
  return Assignment.parse({
    run_id: anId("run"),
    container_id: anId("ctr"),
    tenant_id: anId("ten"),
    desired: "running",
    paused: false,
    stop_timeout_seconds: null,
    stop_reason: null,
    devices: [],
    ...rest,
    spec: {
      ...specOf(create),
      hostname: "web-1",
      image_digest: null,
      max_lifetime_seconds: null,
      capabilities: [...CAPABILITIES],
      on_deviation: "report",
      on_partition: "stop",
      ...spec,
    },
  })
}

export const BOOT = "boot-1"
export const NOW = 1_760_000_000_000

export function aRecord(
  changes: Partial<Omit<RunRecord, "assignment">> & { assignment?: Parameters<typeof anAssignment>[0] } = {},
): RunRecord {
  const { assignment, ...rest } = changes
  return { ...newRecord(anAssignment(assignment), BOOT, NOW), ...rest }
}
