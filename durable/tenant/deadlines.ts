/**
 * How long each run of a container may stay as it is, and what becomes of one that stays longer. A run waits for capacity
 * without end; one whose node is cut off and which is kept meanwhile has no deadline until somebody wants it stopped.
 */
import { isTerminal, publicStatus, type RunState, STATE_DEADLINES_MS, STOP_MARGIN_MS } from "../../schema/lifecycle.ts"
import type { EventDraft } from "./events.ts"
import { type Group, latestRun, mayLive, orphanRun, replaceRun } from "./group.ts"
import type { RunRow } from "./rows.ts"
import { runView, wishView } from "./view.ts"

/** When something falls due for the container by time alone: a deadline, or its next run. */
export function nextWake(group: Group): number | null {
  const { container } = group
  if (container.removed_at_ms !== null) return null
  const due = group.runs.map((run) => deadlineOf(group, run))
  const next = container.next_run_at_ms !== null && !isBlocked(group) ? container.next_run_at_ms : null
  const times = [...due, next].filter((at) => at !== null)
  return times.length === 0 ? null : times.reduce((a, b) => Math.min(a, b))
}

/** A run that may still have a process keeps the next one from being made; only a successor is made beside the latest. */
export const isBlocked = (group: Group): boolean => {
  const { container } = group
  return group.runs.some((run) => mayLive(run) && !(run.id === container.latest_run_id && leavesLater(group, run)))
}

/** Its node is being emptied, and its successor is to run before it stops. */
const leavesLater = ({ container }: Group, run: RunRow) =>
  !isTerminal(run.state) && run.evacuating !== null && container.spec.drain === "start_first" && !container.restarting

/** The group with what the passing of time changes; `settle` does the rest, such as making a run that is due. */
export function passDeadline(before: Group, now: number): { group: Group; events: EventDraft[] } {
  let group = before
  const events: EventDraft[] = []
  for (const run of before.runs) {
    const at = deadlineOf(before, run)
    if (at === null || at > now) continue
    const step = isTerminal(run.state) || run.wish_desired !== "running" ? "stopping" : run.state
    const reason = {
      code: "deadline_exceeded",
      message: `The run was given up: it was ${step} for longer than that may take.`,
    }
    events.push({ type: "container.deadline_passed", run_id: run.id, data: { reason, attempt: run.attempt } })
    if (isTerminal(run.state)) {
      // Removal waits for the nodes to clean up what has ended. They keep that task; the tenant need not wait for it.
      group = { ...group, runs: group.runs.map((old) => (isTerminal(old.state) ? { ...old, present: false } : old)) }
      continue
    }
    // While a node holds it, the lease may orphan it from any state: this is the same right, used for one run. Where a lease
    // would not end it, nothing takes its place before its node has said that it is gone.
    const kept = group.container.spec.on_partition === "keep"
    group = replaceRun(group, { ...orphanRun(run, reason, now), present: kept })
  }
  return { group, events }
}

function deadlineOf(group: Group, run: RunRow): number | null {
  const { container } = group
  const latest = latestRun(group)
  if (run.id === latest?.id) {
    const { status, deadlineMs } = publicStatus(wishView(container), runView(container, run))
    const ends = status === "stopping"
    return (isTerminal(run.state) || run.cut_off) && !ends ? null : deadlineMs
  }
  if (isTerminal(run.state)) return null
  if (run.wish_desired !== "running") {
    const since = Math.max(run.since_ms, latest?.since_ms ?? 0, container.desired_since_ms)
    return since + container.spec.stop.timeout_seconds * 1000 + STOP_MARGIN_MS
  }
  const limits: Partial<Record<RunState, number>> = STATE_DEADLINES_MS
  const limit = limits[run.state]
  return limit === undefined || run.cut_off ? null : run.since_ms + limit
}
