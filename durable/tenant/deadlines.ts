/** What becomes of a container when its `wake_at_ms` has passed: the next run is due, or a state took too long. */
import { isTerminal, publicStatus } from "../../schema/lifecycle.ts"
import type { EventDraft } from "./events.ts"
import { type Group, orphanRun, replaceRun } from "./plan.ts"
import { latestRun, runView, wishView } from "./view.ts"

/** The group with what the passing of time changes; `settle` does the rest, such as making a run that is due. */
export function passDeadline(group: Group, now: number): { group: Group; events: EventDraft[] } {
  const { container } = group
  const run = latestRun(group)
  const { status, deadlineMs } = publicStatus(wishView(container), runView(container, run))
  const backingOff = container.desired === "running" && container.next_run_at_ms !== null
  if (deadlineMs === null || deadlineMs > now || run === undefined || backingOff) return { group, events: [] }

  const reason = {
    code: "deadline_exceeded",
    message: `The run was given up: it was ${isTerminal(run.state) ? status : run.state} for longer than that may take.`,
  }
  const event: EventDraft = { type: "container.deadline_passed", run_id: run.id, data: { reason, attempt: run.attempt } }
  if (!isTerminal(run.state)) {
    // While a node holds it, the lease may orphan it from any state: this is the same right, used for one run.
    return { group: replaceRun(group, orphanRun(run, reason, now)), events: [event] }
  }
  // Removal waits for the node to clean up what has ended. The node keeps that task; the tenant need not wait for it.
  return { group: { ...group, runs: group.runs.map((old) => ({ ...old, present: false })) }, events: [event] }
}
