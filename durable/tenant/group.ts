/** A container with its runs, and what its runs are to each other. Pure. */
import { isTerminal } from "../../schema/lifecycle.ts"
import type { Reason } from "../../schema/protocol.ts"
import type { ContainerRow, RunRow } from "./rows.ts"

/** Runs oldest first. Those of which nothing is left anywhere are forgotten, but for the latest. */
export interface Group {
  readonly container: ContainerRow
  readonly runs: readonly RunRow[]
}

/** The run that the container's status speaks of: the newest, but for a successor that does not run yet. */
export const latestRun = (group: Group): RunRow | undefined => group.runs.find((run) => run.id === group.container.latest_run_id)

export const replaceRun = (group: Group, run: RunRow): Group => ({
  ...group,
  runs: group.runs.map((old) => (old.id === run.id ? run : old)),
})

/**
 * A live run that was made while the latest still lives, to take over from it once it runs (`drain: start_first`). One that
 * was told to stop will not take over.
 */
export function successorOf(group: Group): RunRow | undefined {
  const latest = latestRun(group)
  return group.runs.find((run) => latest && isSuccessor(run, latest) && run.wish_desired === "running")
}

export const isSuccessor = (run: RunRow, latest: RunRow): boolean => run.attempt > latest.attempt && !isTerminal(run.state)

/** It may have a process somewhere: it lives, or it was given up at its deadline and its node has not said that it is gone. */
export const mayLive = (run: RunRow): boolean => !isTerminal(run.state) || (run.state === "orphaned" && run.present)

/** Gives a live run up: whatever its node says later is outranked, and the node is told to destroy it. */
export const orphanRun = (run: RunRow, reason: Reason, now: number): RunRow => ({
  ...run,
  state: "orphaned",
  since_ms: now,
  present: false,
  paused: false,
  reason,
  finished_at_ms: now,
})

/** Ends a run that no node has heard of. */
export const endUnheard = (run: RunRow, state: "stopped" | "rejected", reason: Reason | null, now: number): RunRow => ({
  ...run,
  state,
  since_ms: now,
  present: false,
  reason,
  finished_at_ms: now,
})
