/**
 * Changing a container's network. Pure. A live run changes in place, on a host whose profile could do what it could when the
 * run was placed; what that host cannot do waits for a stop, and is refused until then.
 */
import type { ContainerUpdate, Network } from "../../schema/container.ts"
import { type NetworkFeature, networkFeatures } from "../../schema/features.ts"
import { isTerminal } from "../../schema/lifecycle.ts"
import { err, ok, type Result } from "../../schema/errors.ts"
import type { Refusal } from "./actions.ts"
import type { Changed } from "./placing.ts"
import type { Group } from "./group.ts"
import type { RunRow } from "./rows.ts"
import { latestRun } from "./group.ts"

/** Value by value: rows read twice from SQLite are never the same objects. */
export const sameNetwork = (a: Network | null, b: Network | null): boolean =>
  JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b))

const inOrder = (network: Network | null) =>
  network && [network.egress, network.egress_bytes_per_second ?? null, network.ingress_bytes_per_second ?? null]

/** RFC 7396: what is left out stays, null takes away. */
export function mergeNetwork(known: Network, update: NonNullable<ContainerUpdate["network"]>): Network {
  const merged = { ...known, ...Object.fromEntries(Object.entries(update).filter(([, value]) => value !== undefined)) }
  return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== null)) as Network
}

export function updateNetwork(group: Group, update: NonNullable<ContainerUpdate["network"]>): Result<Changed, Refusal> {
  const { container } = group
  if (container.desired === "removed")
    return err({ code: "action_not_allowed", detail: `Cannot change a container that is ${container.status}.` })
  const network = mergeNetwork(container.spec.network, update)
  if (sameNetwork(network, container.spec.network)) return ok({ group, events: [] })
  const run = latestRun(group)
  const refused = run && refusedWhileLive(run, network)
  if (refused) return err(refused)
  const spec = { ...container.spec, network }
  return ok({
    group: { ...group, container: { ...container, spec } },
    events: [{ type: "container.updated", run_id: run?.id ?? null, data: { network } }],
  })
}

const LACKING: Record<NetworkFeature, string> = {
  network: "This container's host cannot give its isolation profile a network.",
  bandwidth: "This container's host cannot limit network bandwidth under its isolation profile.",
}

function refusedWhileLive(run: RunRow, network: Network): Refusal | undefined {
  const { features } = run
  if (isTerminal(run.state) || run.node_id === null || features === null) return undefined
  const missing = networkFeatures(network).find((feature) => !features.includes(feature))
  if (missing === undefined) return undefined
  return { code: "action_not_allowed", detail: `${LACKING[missing]} Stop the container, then change it.` }
}
