/** Which events a change makes. The stages of a run and of its container, each told once. */
import type { EventData, EventType } from "../../schema/api.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Status } from "../../schema/lifecycle.ts"
import { GAVE_UP } from "./restart.ts"
import type { ContainerRow, RunRow } from "./rows.ts"

export interface EventDraft {
  readonly type: EventType
  readonly run_id: RunId | null
  readonly data: EventData
}

const digest = (run: RunRow) => (run.image_digest === null ? {} : { image_digest: run.image_digest })

export const containerCreated = (container: ContainerRow): EventDraft => ({
  type: "container.created",
  run_id: null,
  data: { image: container.spec.image },
})

/** `container.scheduling` is told for each run, so that restarts can be counted from the log of events alone. */
export const runMade = (container: ContainerRow, run: RunRow | undefined): EventDraft => ({
  type: "container.scheduling",
  run_id: run?.id ?? null,
  data: { image: container.spec.image, ...(run && { attempt: run.attempt }) },
})

/**
 * Each ended run is told as an exit, by its id, even where the container goes straight on to its next run or another has taken
 * over. `restartAtMs`: when the restart policy will start the next.
 */
export function runEnded(run: RunRow, restartAtMs: number | null): EventDraft[] {
  const data = { reason: run.reason, exit: run.exit, attempt: run.attempt, ...digest(run) }
  const ended: EventDraft = { type: run.state === "orphaned" ? "container.lost" : "container.exited", run_id: run.id, data }
  if (run.reason?.code === GAVE_UP) return [ended, { ...ended, type: "container.gave_up" }]
  if (restartAtMs === null) return [ended]
  const next_run_at = new Date(restartAtMs).toISOString()
  return [ended, { type: "container.restart_scheduled", run_id: run.id, data: { next_run_at, attempt: run.attempt } }]
}

export const runUnplaceable = (run: RunRow): EventDraft => ({
  type: "container.unplaceable",
  run_id: run.id,
  data: { reason: run.reason, attempt: run.attempt },
})

const TOLD_BY_STATUS: Partial<Record<Status, EventType>> = {
  pulling: "container.pulling",
  starting: "container.starting",
  running: "container.running",
  paused: "container.paused",
  stopping: "container.stopping",
  removed: "container.removed",
}

/** Statuses that runs tell of themselves (scheduling, exited, lost) are left to `runMade` and `runEnded`. */
export function statusChanged(
  before: ContainerRow | null,
  container: ContainerRow,
  run: RunRow | undefined,
): EventDraft | undefined {
  const after = container.status
  const tookOver = before !== null && after === "running" && before.latest_run_id !== container.latest_run_id
  const unpaused = before?.status === "paused" && after === "running" && !tookOver
  const told = unpaused ? "container.unpaused" : TOLD_BY_STATUS[after]
  if ((before?.status === after && !tookOver) || told === undefined) return undefined
  return { type: told, run_id: run?.id ?? null, data: run ? { attempt: run.attempt, ...digest(run) } : {} }
}
