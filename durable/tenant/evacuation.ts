/**
 * What becomes of runs whose node cannot be seen, or is being emptied. Pure.
 *
 * A node that is emptied: what no restart policy would start again is left to end by itself until the operator's deadline. All
 * else leaves at once: stopped and then made anew elsewhere, or, with `drain: start_first`, made anew and then stopped. The run
 * that is made beside another counts against no quota: the operator asked for it, there is one at most, and it soon takes over.
 */
import { isTerminal } from "../../schema/lifecycle.ts"
import type { Reason } from "../../schema/protocol.ts"
import type { EventDraft } from "./events.ts"
import { type Group, latestRun, replaceRun, successorOf } from "./group.ts"
import type { Changed } from "./placing.ts"
import { backoffMs, MAX_LOST_ATTEMPTS } from "./restart.ts"
import type { ContainerRow, RunRow } from "./rows.ts"

/** `reason` null: the node is back with it. */
export function cutOff(group: Group, run: RunRow, reason: Reason | null): Changed {
  if (isTerminal(run.state) || run.cut_off === (reason !== null)) return { group, events: [] }
  const event: EventDraft = {
    type: reason === null ? "container.reachable" : "container.unreachable",
    run_id: run.id,
    data: { reason, attempt: run.attempt },
  }
  return { group: replaceRun(group, { ...run, cut_off: reason !== null }), events: [event] }
}

/** `atOnce`: the operator's deadline has come. Whatever is on its way out already is left to that. */
export function evacuate(group: Group, run: RunRow, reason: Reason, atOnce: boolean, now: number): Changed {
  if (isTerminal(run.state) || run.wish_desired !== "running" || group.container.desired !== "running")
    return { group, events: [] }
  const data = { reason, attempt: run.attempt }
  const events: EventDraft[] = run.evacuating === null ? [{ type: "container.draining", run_id: run.id, data }] : []
  const leaving = { ...run, evacuating: reason }
  const told = replaceRun(group, run.evacuating === null ? leaving : run)
  const { container } = told
  if (run.id !== container.latest_run_id) {
    return { group: replaceRun(told, { ...leaving, wish_desired: "stopped", assign_due: true }), events }
  }
  if (container.spec.restart.policy === "no" && !atOnce) return { group: told, events }
  if (startsFirst(container, run) && !atOnce) return { group: withSuccessor(told, now), events }
  const stopping = { restarting: true, next_run_at_ms: null, paused: false, stop_timeout_seconds: null, desired_since_ms: now }
  return { group: { ...told, container: { ...container, ...stopping } }, events }
}

const startsFirst = ({ spec }: ContainerRow, run: RunRow) => spec.drain === "start_first" && run.state === "running"

function withSuccessor(group: Group, now: number): Group {
  const { container } = group
  const asked = successorOf(group) !== undefined || container.next_run_at_ms !== null
  if (asked || container.lost_attempts >= MAX_LOST_ATTEMPTS) return group
  return { ...group, container: { ...container, next_run_at_ms: now } }
}

/** A successor has ended before it took over. The run that it was for goes on, and another is tried later, but not for ever. */
export function afterSuccessor(group: Group, now: number): Group {
  const { container } = group
  const latest = latestRun(group)
  if (!latest || isTerminal(latest.state) || latest.evacuating === null || container.restarting) return group
  if (container.desired !== "running") return group
  const lost_attempts = container.lost_attempts + 1
  const next_run_at_ms = lost_attempts < MAX_LOST_ATTEMPTS ? now + backoffMs(lost_attempts) : null
  return { ...group, container: { ...container, lost_attempts, next_run_at_ms } }
}

/** The successor takes over once it runs, or once the run before it has ended; `settle` then stops what is older. */
export function takeOver(group: Group): Group {
  const latest = latestRun(group)
  const successor = successorOf(group)
  if (!latest || !successor || group.container.desired !== "running") return group
  const ready = successor.state === "running" && !isTerminal(latest.state)
  const { container } = group
  const goesOn = isTerminal(latest.state) && (container.restarting || container.next_run_at_ms !== null)
  if (!ready && !goesOn) return group
  const now = { latest_run_id: successor.id, next_run_at_ms: null, restarting: false, paused: false, lost_attempts: 0 }
  return { ...group, container: { ...container, ...now } }
}
