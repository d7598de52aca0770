/** Which events a change makes. The stages of a run and of its container, each told once. */
import type { EventData, EventType } from "../../schema/api.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Status } from "../../schema/lifecycle.ts"
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

/** An ended run is told as an exit even where the container goes straight on to its next run. */
export function runEnded(container: ContainerRow, run: RunRow): EventDraft[] {
  const data = { reason: run.reason, exit: run.exit, attempt: run.attempt, ...digest(run) }
  const ended: EventDraft = { type: run.state === "orphaned" ? "container.lost" : "container.exited", run_id: run.id, data }
  if (container.next_run_at_ms === null) return [ended]
  const next_run_at = new Date(container.next_run_at_ms).toISOString()
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
export function statusChanged(before: Status | null, container: ContainerRow, run: RunRow | undefined): EventDraft | undefined {
  const after = container.status
  const told = before === "paused" && after === "running" ? "container.unpaused" : TOLD_BY_STATUS[after]
  if (before === after || told === undefined) return undefined
  return { type: told, run_id: run?.id ?? null, data: run ? { attempt: run.attempt, ...digest(run) } : {} }
}
