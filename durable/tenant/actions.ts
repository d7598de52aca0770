/** What a tenant's call makes of a container: allowed or not, and the wish that follows. */
import type { ErrorCode } from "../../schema/errors.ts"
import { err, ok, type Result } from "../../schema/errors.ts"
import type { FieldError } from "../../schema/errors.ts"
import { isTerminal, type Action } from "../../schema/lifecycle.ts"
import type { SignalName } from "../../schema/container.ts"
import type { ContainerAction } from "../shared/rpc.ts"
import type { Group } from "./group.ts"
import type { ContainerRow } from "./rows.ts"
import { latestRun } from "./group.ts"
import { actionsOf } from "./view.ts"

export interface Refusal {
  readonly code: ErrorCode
  readonly detail: string
  readonly errors?: readonly FieldError[]
}

/** A changed wish, or a signal that only the node can deliver. `begins`: the container will take up quota that it did not. */
export type Decision =
  | { readonly kind: "wish"; readonly group: Group; readonly begins: boolean }
  | { readonly kind: "signal"; readonly signal: SignalName }

export function decideAction(group: Group, action: ContainerAction, now: number): Result<Decision, Refusal> {
  const { container } = group
  const allowed = actionsOf(container.status, latestRun(group))
  const forced = action.kind === "remove" && action.force
  if (!forced && !allowed.includes(action.kind)) return err(notAllowed(container, action.kind, allowed))
  switch (action.kind) {
    case "start":
      return ok(begin(group, now))
    case "restart":
      return ok(restart(group, action.timeout_seconds, now))
    case "stop":
      return ok(wish(group, stopped(container, action.timeout_seconds, now)))
    case "pause":
      return ok(wish(group, { ...container, paused: true }))
    case "unpause":
      return ok(wish(group, { ...container, paused: false }))
    case "remove":
      return ok(wish(group, removed(container, action.force, now)))
    case "kill":
      return kill(group, action.signal, now)
  }
}

function notAllowed(container: ContainerRow, action: Action, allowed: readonly Action[]): Refusal {
  const may = allowed.length === 0 ? "Nothing may be done to it any more" : `It allows: ${allowed.join(", ")}`
  const hint = action === "remove" && container.status !== "removed" ? "; to remove it at once, use force" : ""
  return { code: "action_not_allowed", detail: `Cannot ${action} a container that is ${container.status}. ${may}${hint}.` }
}

const wish = (group: Group, container: ContainerRow): Decision => ({
  kind: "wish",
  group: { ...group, container },
  begins: false,
})

/** A start by hand forgets what earlier runs had done to the back-off. */
function begin(group: Group, now: number): Decision {
  const container: ContainerRow = {
    ...group.container,
    desired: "running",
    desired_since_ms: now,
    stop_timeout_seconds: null,
    paused: false,
    restarting: false,
    next_run_at_ms: now,
    restarts: 0,
    backoff_step: 0,
    lost_attempts: 0,
  }
  return { kind: "wish", group: { ...group, container }, begins: !group.container.active }
}

function restart(group: Group, timeoutSeconds: number | null, now: number): Decision {
  const run = latestRun(group)
  if (run === undefined || isTerminal(run.state)) return begin(group, now)
  // Not on a node yet: the run that will start is the new one.
  if (run.state === "pending") return wish(group, { ...group.container, restarts: 0, backoff_step: 0, lost_attempts: 0 })
  const decision = begin(group, now)
  if (decision.kind !== "wish") return decision
  const container = { ...decision.group.container, restarting: true, next_run_at_ms: null, stop_timeout_seconds: timeoutSeconds }
  return { ...decision, group: { ...group, container } }
}

const stopped = (container: ContainerRow, timeoutSeconds: number | null, now: number): ContainerRow => ({
  ...container,
  desired: "stopped",
  desired_since_ms: now,
  stop_timeout_seconds: timeoutSeconds,
  paused: false,
  restarting: false,
  next_run_at_ms: null,
})

const removed = (container: ContainerRow, force: boolean, now: number): ContainerRow =>
  container.desired === "removed" && !force
    ? container
    : {
        ...stopped(container, force ? 0 : container.stop_timeout_seconds, now),
        desired: "removed",
        desired_since_ms: container.desired === "removed" ? container.desired_since_ms : now,
      }

/** A signal that is meant to end the process is a stop, so that the restart policy does not start it again. */
function kill(group: Group, signal: SignalName, now: number): Result<Decision, Refusal> {
  const { container } = group
  // One that is being removed stays so; it only has less time left.
  const end = (timeoutSeconds: number | null): Decision =>
    container.desired === "removed"
      ? wish(group, { ...container, stop_timeout_seconds: timeoutSeconds })
      : wish(group, stopped(container, timeoutSeconds, now))
  if (signal === "SIGKILL") return ok(end(0))
  if (signal === (container.spec.stop.signal ?? "SIGTERM")) return ok(end(null))
  const run = latestRun(group)
  if (run?.state === "running") return ok({ kind: "signal", signal })
  const detail = `Cannot deliver ${signal}: the container is ${container.status} and has no running process.`
  return err({ code: "action_not_allowed", detail })
}
