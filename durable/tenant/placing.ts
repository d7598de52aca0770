/** What a cell's answer makes of a run. Pure. */
import type { Policy, Refused } from "../../schema/api.ts"
import type { ContainerSpec } from "../../schema/container.ts"
import { type Feature, featuresFor } from "../../schema/features.ts"
import type { CellId, NodeId } from "../../schema/ids.ts"
import { type EventDraft, runUnplaceable } from "./events.ts"
import { endUnheard, type Group, replaceRun } from "./group.ts"
import type { RunRow } from "./rows.ts"

/** A cell tells when capacity changes; this is for the case that its word got lost. */
const CAPACITY_RETRY_MS = 30_000

export interface Changed {
  readonly group: Group
  readonly events: readonly EventDraft[]
}

export interface Place {
  readonly cell: CellId
  readonly node: NodeId
  readonly region: string | null
  readonly devices: readonly string[]
  readonly features: readonly Feature[]
  /** The tenant's, when the cell was asked. */
  readonly policy: Policy
  /** When the cell was asked, Unix milliseconds. */
  readonly asked_at_ms: number
  readonly answered_at_ms: number
}

/** The run may have ended while the cell was asked: then the reservation goes back. Its node may have spoken of it already. */
export function placed(group: Group, run: RunRow, at: Place, now: number): Changed {
  if (run.state === "pending") {
    const known = { ...run, cell_id: at.cell }
    // The spec was changed while the cell was asked, and the node cannot do that: another run asks anew.
    if (missesFeature(group.container.spec, at)) return anew(group, known, now)
    return { group: replaceRun(group, atPlace(group.container.spec, run, at, now)), events: [] }
  }
  if (run.node_id === null) return { group: replaceRun(group, { ...run, cell_id: at.cell, release_due: true }), events: [] }
  const known = run.node_id === at.node ? { ...run, ...whereAbouts(at) } : run
  return { group: replaceRun(group, known), events: [] }
}

/** The spec was changed while the cell was asked, to what the chosen node cannot do. */
const missesFeature = (spec: ContainerSpec, at: Place): boolean =>
  featuresFor(spec).some((feature) => !at.features.includes(feature))

/**
 * Whether a node may be told of the run before it is on record here. Not one with devices: after a crash nobody but the cell
 * would know which they are.
 */
export const mayGoEarly = (spec: ContainerSpec, at: Place): boolean => at.devices.length === 0 && !missesFeature(spec, at)

/** Ends a run that no node has heard of, and has the container's next one made. */
function anew(group: Group, run: RunRow, now: number): Changed {
  const ended = endUnheard(run, "stopped", null, now)
  const { container } = group
  // A successor's place is taken by another; the run beside it goes on.
  const next = run.id === container.latest_run_id ? { restarting: true } : {}
  return { group: replaceRun({ ...group, container: { ...container, ...next } }, ended), events: [] }
}

/** The policy has changed since the container was made: its next run must not be. */
export function policyRefused(group: Group, run: RunRow, message: string, now: number): Changed {
  if (run.state !== "pending") return { group, events: [] }
  const reason = { code: "policy_refused", message }
  return { group: replaceRun(group, endUnheard(run, "rejected", reason, now)), events: [] }
}

const whereAbouts = (at: Place) => ({
  cell_id: at.cell,
  region: at.region,
  devices: [...at.devices],
  features: [...at.features],
  policy: at.policy,
})

/** A pending run as it is once its node has been told of it. */
export function atPlace(spec: ContainerSpec, run: RunRow, at: Place, now: number): RunRow {
  const timings = { committed: at.asked_at_ms - run.created_at_ms, placed: at.answered_at_ms - at.asked_at_ms }
  return { ...given(spec, run, at, now), ...whereAbouts(at), timings }
}

/**
 * A pending run that a node holds is placed there, though this object has no record of it: a crash took that. What it was told
 * is told anew, so it is held to the policy: a crash must not loosen it.
 */
export const given = (spec: ContainerSpec, run: RunRow, at: Pick<Place, "node" | "policy">, now: number): RunRow => ({
  ...run,
  node_id: at.node,
  policy: at.policy,
  wish_network: spec.network,
  state: "placed",
  since_ms: now,
  reason: null,
  assign_due: true,
  retry_at_ms: null,
})

/** Told as an event when the run first does not fit; later refusals only change the counts. */
export function unplaceable(group: Group, run: RunRow, refused: readonly Refused[], now: number): Changed {
  if (run.state !== "pending") return { group, events: [] }
  const reason = { code: "no_capacity", message: noCapacityMessage(refused) }
  const waits = { ...run, reason, retry_at_ms: now + CAPACITY_RETRY_MS }
  return { group: replaceRun(group, waits), events: run.reason === null ? [runUnplaceable(waits)] : [] }
}

/** Cells name their filters alike, so their counts add up; most nodes first. */
export function mergeRefused(lists: readonly (readonly Refused[])[]): Refused[] {
  const counts = new Map<string, number>()
  for (const { reason, nodes } of lists.flat()) counts.set(reason, (counts.get(reason) ?? 0) + nodes)
  return [...counts]
    .map(([reason, nodes]) => ({ reason, nodes }))
    .toSorted((a, b) => b.nodes - a.nodes || (a.reason < b.reason ? -1 : 1))
}

function noCapacityMessage(refused: readonly Refused[]): string {
  if (refused.length === 0) return "No node can hold this container now: there are no nodes."
  const counted = refused.map(({ reason, nodes }) => `${nodes} ${nodes === 1 ? "node" : "nodes"}: ${reason}`)
  return `No node can hold this container now. ${counted.join("; ")}.`
}
