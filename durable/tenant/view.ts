/** Rows as the tenant, the node and the lifecycle see them. */
import type { Container, Event, Policy } from "../../schema/api.ts"
import type { TenantId } from "../../schema/ids.ts"
import {
  type Action,
  ALLOWED_ACTIONS,
  isTerminal,
  publicStatus,
  type RunView,
  type Status,
  type WishView,
} from "../../schema/lifecycle.ts"
import type { Assignment } from "../../schema/protocol.ts"
import { capabilitiesOf } from "./policy.ts"
import type { ContainerRow, EventRow, RunRow } from "./rows.ts"
import { warningsOf } from "./warnings.ts"

const iso = (ms: number) => new Date(ms).toISOString()
const isoOrNull = (ms: number | null) => (ms === null ? null : iso(ms))

export const wishView = (container: ContainerRow): WishView => ({
  desired: container.desired,
  desiredSinceMs: container.desired_since_ms,
  stopTimeoutSeconds: container.stop_timeout_seconds ?? container.spec.stop.timeout_seconds,
  nextRunAtMs: container.next_run_at_ms,
  restarting: container.restarting,
})

/** What is told of a run whose node is cut off for longer than its lease: nobody knows more. */
const CUT_OFF = {
  code: "node_unreachable",
  message: "The container's host is cut off. The run goes on there, unseen, as on_partition asks, and is not replaced.",
}

/** A container is removed when none of its runs is present any more, not only the latest: the container's row knows. */
export const runView = (container: ContainerRow, run: RunRow | undefined): RunView | null =>
  run === undefined
    ? null
    : {
        state: run.state,
        sinceMs: run.since_ms,
        paused: run.paused,
        present: container.removed_at_ms === null,
        reason: run.cut_off && !isTerminal(run.state) ? CUT_OFF : run.reason,
      }

/** What may be done next. Not every profile of every host can pause. */
export const actionsOf = (status: Status, run: RunRow | undefined): Action[] =>
  ALLOWED_ACTIONS[status].filter((action) => action !== "pause" || run?.features?.includes("pause") !== false)

/** `policy` is the tenant's at present; a run that was placed keeps the one it was placed under. */
export function containerView(container: ContainerRow, run: RunRow | undefined, policy: Policy): Container {
  const { spec } = container
  const status = publicStatus(wishView(container), runView(container, run))
  return {
    id: container.id,
    name: container.name,
    status: status.status,
    reason: status.reason,
    since: iso(status.sinceMs),
    deadline: isoOrNull(status.deadlineMs),
    actions: actionsOf(status.status, run),
    run: run === undefined ? null : runDetails(run),
    history: container.history,
    restarts: container.restarts,
    warnings: warningsOf(spec, run),
    created_at: iso(container.created_at_ms),
    image: spec.image,
    registry_credential: spec.registry_credential ?? null,
    command: spec.command ?? null,
    args: spec.args ?? null,
    env: spec.env,
    workdir: spec.workdir ?? null,
    user: spec.user ?? null,
    labels: spec.labels,
    resources: spec.resources,
    restart: spec.restart,
    stop: spec.stop,
    profile: spec.profile,
    read_only: spec.read_only,
    tty: spec.tty,
    network: spec.network,
    capabilities: capabilitiesOf(spec, run?.policy ?? policy),
    seccomp: spec.seccomp,
    placement: spec.placement,
    on_partition: spec.on_partition,
    drain: spec.drain,
    max_lifetime_seconds: spec.max_lifetime_seconds ?? null,
    remove_on_exit: spec.remove_on_exit,
    identity: spec.identity ?? false,
  }
}

const runDetails = (run: RunRow): NonNullable<Container["run"]> => ({
  id: run.id,
  state: run.state,
  node_region: run.region,
  image_digest: run.image_digest,
  attempt: run.attempt,
  created_at: iso(run.created_at_ms),
  accelerators: run.devices ?? [],
  started_at: isoOrNull(run.started_at_ms),
  finished_at: isoOrNull(run.finished_at_ms),
  exit: run.exit,
  timings: run.timings,
})

/** Wide enough for 2^53: cursors compare as text the way they compare as numbers. */
const CURSOR_DIGITS = 16
export const formatCursor = (seq: number) => String(seq).padStart(CURSOR_DIGITS, "0")
export const parseCursor = (text: string): number | undefined => (/^\d{1,16}$/.test(text) ? Number(text) : undefined)

export const eventView = (row: EventRow): Event => ({
  id: row.id,
  type: row.type,
  time: iso(row.time_ms),
  container_id: row.container_id,
  container_name: row.container_name,
  run_id: row.run_id,
  data: row.data,
  cursor: formatCursor(row.seq),
})

/** Of a run that was placed before there were policies. */
const DEFAULT_POLICY: Policy = { capabilities: "default", on_deviation: "report", vulnerable_nodes: "allow" }

/** What a node is told of a run. A hostname takes no underscore, so an unnamed container's id loses its own. */
export function assignmentOf(tenantId: TenantId, container: ContainerRow, run: RunRow): Assignment {
  const { image, command, args, env, workdir, user, labels, resources, stop, profile, read_only, tty, seccomp } = container.spec
  const policy = run.policy ?? DEFAULT_POLICY
  return {
    run_id: run.id,
    container_id: container.id,
    tenant_id: tenantId,
    desired: run.wish_desired,
    paused: run.wish_paused,
    stop_timeout_seconds: run.wish_stop_timeout_seconds,
    stop_reason: run.wish_desired === "stopped" && container.desired === "running" ? run.evacuating : null,
    devices: run.devices ?? [],
    spec: {
      image, image_digest: run.image_digest, registry_credential: container.spec.registry_credential ?? null, identity: container.spec.identity ?? false, hostname: container.name ?? container.id.replace("_", "-"),
      command, args, env, workdir, user, labels, resources, stop, profile, read_only, tty, seccomp,
      network: run.wish_network ?? container.spec.network,
      capabilities: capabilitiesOf(container.spec, policy), on_deviation: policy.on_deviation,
      max_lifetime_seconds: container.spec.max_lifetime_seconds ?? null, on_partition: container.spec.on_partition,
    },
  } // prettier-ignore
}
