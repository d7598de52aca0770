/** What becomes of a container when its latest run has ended: the restart policy, its back-off, and when to give up. */
import type { TerminalState } from "../../schema/lifecycle.ts"
import type { ContainerRow, RunRow } from "./rows.ts"

/** The first wait before a restart; it doubles with each, up to the longest. */
const FIRST_BACKOFF_MS = 100
export const LONGEST_BACKOFF_MS = 5 * 60_000
/** A run that lasted this long was healthy: the next failure starts again at the first wait. */
export const HEALTHY_RUN_MS = 10 * 60_000
/** Runs in a row that were given up before they came to `running`: more would only burn nodes. */
export const MAX_LOST_ATTEMPTS = 5

/** Why a container is not placed anew any more. */
export const GAVE_UP = "gave_up"

export const backoffMs = (step: number) => Math.min(FIRST_BACKOFF_MS * 2 ** Math.min(step, 30), LONGEST_BACKOFF_MS)

/** `run` has just come to a terminal state. The next run, if any, is due at `next_run_at_ms`; `restarting` is left to `settle`. */
export function afterRun(container: ContainerRow, run: RunRow, now: number): { container: ContainerRow; run: RunRow } {
  const image_digest = container.image_digest ?? run.image_digest
  const known = { ...container, image_digest, next_run_at_ms: null }
  const over = known.spec.remove_on_exit ? removing(known, now) : known
  if (container.desired === "stopped") return { container: over, run }
  if (container.desired === "removed" || (container.restarting && !endsWithDrain(container, run)))
    return { container: known, run }
  if (container.restarting) return { container: { ...over, restarting: false }, run }
  if (run.state === "orphaned") return afterOrphan(known, run, now)
  if (mayRestart(container, run)) {
    const step = lastedMs(run, now) >= HEALTHY_RUN_MS ? 0 : container.backoff_step
    const next = { restarts: container.restarts + 1, backoff_step: step + 1, lost_attempts: 0 }
    return { container: { ...known, ...next, next_run_at_ms: now + backoffMs(step) }, run }
  }
  return { container: over, run }
}

const removing = (container: ContainerRow, now: number): ContainerRow => ({
  ...container,
  desired: "removed",
  desired_since_ms: now,
  stop_timeout_seconds: 0,
})

/**
 * Stopped at the deadline of a drain; one that no policy starts again has had its only run, unless its node has said that it
 * never came to run: of one that was lost with its node nobody knows.
 */
const endsWithDrain = ({ spec }: ContainerRow, run: RunRow) =>
  run.evacuating !== null && spec.restart.policy === "no" && (run.started_at_ms !== null || lostUnheard(run))

const lostUnheard = (run: RunRow) => run.state === "orphaned" && run.reason?.code !== "deadline_exceeded"

/**
 * A run that was lost with its node is replaced when the policy wants the container kept up. One that never came to
 * `running` in its time is placed anew whatever the policy, since it has done nothing yet; but not for ever.
 */
function afterOrphan(container: ContainerRow, run: RunRow, now: number): { container: ContainerRow; run: RunRow } {
  const lost_attempts = run.started_at_ms === null ? container.lost_attempts + 1 : 0
  const keptUp = container.spec.restart.policy !== "no"
  const neverRan = run.started_at_ms === null && run.reason?.code === "deadline_exceeded"
  if (!keptUp && !neverRan) return { container: { ...container, lost_attempts }, run }
  if (lost_attempts < MAX_LOST_ATTEMPTS) return { container: { ...container, lost_attempts, next_run_at_ms: now }, run }
  const message = `Given up after ${lost_attempts} runs in a row that never came to running. The last: ${run.reason?.message ?? ""}`
  return { container: { ...container, lost_attempts }, run: { ...run, reason: { code: GAVE_UP, message } } }
}

function mayRestart({ spec, restarts }: ContainerRow, run: RunRow): boolean {
  const { policy, max_retries } = spec.restart
  switch (policy) {
    case "no":
      return false
    case "always":
      return true
    case "on-failure":
      return didNotEndWell(run) && restarts < (max_retries ?? Number.POSITIVE_INFINITY)
  }
}

const FAILURES: readonly (TerminalState | string)[] = ["failed", "rejected"]
const didNotEndWell = (run: RunRow) => FAILURES.includes(run.state) || wasTakenAway(run)

/** Stopped because its host shut down or lost touch: nobody who may wish so wished its end. A lifetime is the tenant's own wish. */
const wasTakenAway = ({ state, exit, reason }: RunRow) =>
  state === "stopped" && (exit?.by === "host" || (exit?.by === "platform" && reason?.code !== "lifetime_exceeded"))

const lastedMs = (run: RunRow, now: number) => (run.started_at_ms === null ? 0 : (run.finished_at_ms ?? now) - run.started_at_ms)
