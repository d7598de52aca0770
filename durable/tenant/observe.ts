/** What a node's report makes of a run. The node is not trusted: it moves its own runs only, and only where it may. */
import { ImageDigest } from "../../schema/container.ts"
import { isTerminal, mayMove, supersedes, type RunState } from "../../schema/lifecycle.ts"
import type { Exit, Observation, Timings } from "../../schema/protocol.ts"
import type { RunRow } from "./rows.ts"

/** A run's trail stays readable, and a node cannot fill our rows with it. */
const MAX_TIMINGS = 32
const MAX_TIMING_NAME = 64
const MAX_SIGNAL_NAME = 32

/** The run as it is after the observation; undefined when that is no news. */
export function mergeObservation(run: RunRow, seen: Observation, now: number): RunRow | undefined {
  const rises = run.state !== seen.state
  if (!supersedes(seen, run) || (rises && !mayMove("node", run.state, seen.state))) return undefined
  const ended = isTerminal(seen.state)
  const began = seen.started_at_ms ?? (seen.state === "running" ? seen.at_ms : null)
  return {
    ...run,
    state: seen.state,
    since_ms: rises ? now : run.since_ms,
    revision: seen.revision,
    paused: seen.state === "running" && seen.paused,
    reason: seen.reason,
    exit: ended && seen.exit ? boundedExit(seen.exit) : null,
    image_digest: digestOf(seen) ?? run.image_digest,
    started_at_ms: run.started_at_ms ?? within(began, run, now),
    finished_at_ms: ended ? (within(seen.finished_at_ms, run, now) ?? now) : null,
    timings: mergeTimings(run.timings, seen.timings),
  }
}

/** Nothing of the run is left on its node. One that had not ended has ended now, by the host's doing unless it was told to. */
export function mergeGone(run: RunRow, now: number): RunRow | undefined {
  if (isTerminal(run.state)) return run.present ? { ...run, present: false } : undefined
  const state = endWithoutReport(run)
  if (state === undefined) return undefined
  const told = state === "stopped"
  const reason = told ? null : { code: "host_lost_run", message: "The host no longer has this run and cannot say how it ended." }
  const exit: Exit = { code: null, signal: null, oom_killed: false, by: told ? "tenant" : "host", log_tail: [] }
  return { ...run, state, since_ms: now, present: false, paused: false, reason, exit, finished_at_ms: now }
}

function endWithoutReport(run: RunRow): RunState | undefined {
  const ends: readonly RunState[] = run.wish_desired === "running" ? ["rejected", "failed"] : ["stopped"]
  return ends.find((state) => mayMove("node", run.state, state))
}

/** Clocks of hosts drift, and a hostile one may say anything: a run's times lie between its making and now. */
const within = (ms: number | null, run: RunRow, now: number) =>
  ms === null ? null : Math.min(Math.max(ms, run.created_at_ms), now)

const digestOf = (seen: Observation) => (ImageDigest.safeParse(seen.image_digest).success ? seen.image_digest : null)

const boundedExit = (exit: Exit): Exit => ({ ...exit, signal: exit.signal?.slice(0, MAX_SIGNAL_NAME) ?? null })

/** The platform's own steps come first and cannot be overwritten. */
function mergeTimings(ours: Timings, theirs: Timings): Timings {
  const steps = Object.entries(theirs).filter(([name, ms]) => name.length <= MAX_TIMING_NAME && ms >= 0)
  return { ...ours, ...Object.fromEntries(steps.filter(([name]) => !PLATFORM_STEPS.includes(name)).slice(0, MAX_TIMINGS)) }
}

export const PLATFORM_STEPS: readonly string[] = ["committed", "placed", "assigned"]
