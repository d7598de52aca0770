/**
 * Changing a container's network. Pure. A live run keeps its network namespace, which has an interface or has none, and its
 * host can do what its profile could when the run was placed; so egress cannot come or go under a live run, and a limit
 * that the host cannot keep is refused.
 */
import type { ContainerUpdate, Network } from "../../schema/container.ts"
import { isTerminal } from "../../schema/lifecycle.ts"
import { err, ok, type Result } from "../../schema/errors.ts"
import type { Refusal } from "./actions.ts"
import type { Changed } from "./placing.ts"
import type { Group } from "./plan.ts"
import type { RunRow } from "./rows.ts"
import { latestRun } from "./view.ts"

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
  const refused = run && refusedWhileLive(run, container.spec.network, network)
  if (refused) return err(refused)
  const spec = { ...container.spec, network }
  return ok({
    group: { ...group, container: { ...container, spec } },
    events: [{ type: "container.updated", run_id: run?.id ?? null, data: { network } }],
  })
}

function refusedWhileLive(run: RunRow, before: Network, after: Network): Refusal | undefined {
  if (isTerminal(run.state) || run.node_id === null) return undefined
  if ((before.egress === "none") !== (after.egress === "none")) {
    const detail =
      before.egress === "none"
        ? "A run that began without egress has no network interface. Stop the container, then change its egress."
        : "A live run's network interface cannot be taken away. Stop the container, then change its egress to none."
    return { code: "action_not_allowed", detail }
  }
  if (hasRates(after) && run.features?.includes("bandwidth") === false) {
    const detail =
      "This container's host cannot limit network bandwidth under its isolation profile. Stop the container, then change it."
    return { code: "action_not_allowed", detail }
  }
  return undefined
}

const hasRates = (network: Network) =>
  network.egress_bytes_per_second !== undefined || network.ingress_bytes_per_second !== undefined
