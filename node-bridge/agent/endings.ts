/**
 * How a run ended, in words a person understands. Pure: from the record, which knows who asked for what, and the host's
 * outcome, which knows only what the process did.
 */
import type { Exit, Reason } from "../../schema/protocol.ts"
import { MIB, SIGNALS } from "../../schema/container.ts"
import type { TerminalState } from "../../schema/lifecycle.ts"
import type { Outcome } from "../runtime/controller.ts"
import type { RunRecord } from "./record.ts"

/** A shell adds this to the number of the signal that ended a process. */
const SIGNAL_BASE = 128

interface Ending {
  readonly state: TerminalState
  readonly reason: Reason
  readonly exit: Exit | null
  readonly finished_at_ms: number
}

const withEnding = (record: RunRecord, ending: Ending, nowMs: number): RunRecord => ({
  ...record,
  ...ending,
  paused: false,
  revision: record.revision + 1,
  at_ms: nowMs,
})

/** The process ended, and the host saw how. */
export function ended(record: RunRecord, outcome: Outcome, nowMs: number): RunRecord {
  const { exit, finished_at_ms } = outcome
  if (outcome.host_fault) {
    return withEnding(
      record,
      { state: record.stop ? "stopped" : "failed", reason: outcome.host_fault, exit: { ...exit, by: "host" }, finished_at_ms },
      nowMs,
    )
  }
  if (record.stop) {
    const { by, reason } = record.stop
    return withEnding(record, { state: "stopped", reason: told(reason, exit), exit: { ...exit, by }, finished_at_ms }, nowMs)
  }
  const by = endedByTenantSignal(record, exit) ? "tenant" : "process"
  const state = exit.code === 0 ? "completed" : "failed"
  return withEnding(record, { state, reason: whatHappened(record, exit), exit: { ...exit, by }, finished_at_ms }, nowMs)
}

/** Told to stop before there was a process. */
export function stoppedBeforeStart(record: RunRecord, nowMs: number): RunRecord {
  const stop = record.stop
  const exit: Exit = { code: null, signal: null, oom_killed: false, by: stop?.by ?? "tenant", log_tail: [] }
  const before = "It had not started yet."
  const reason = stop ? { ...stop.reason, message: `${stop.reason.message} ${before}` } : { code: "stopped", message: before }
  return withEnding(record, { state: "stopped", reason, exit, finished_at_ms: nowMs }, nowMs)
}

/**
 * A verb failed for good: before `starting` the run is rejected, from there on it failed. `exitCode`: what a shell would say
 * of a process that could not be started; null when the process is not at fault.
 */
export function gaveUp(record: RunRecord, reason: Reason, exitCode: number | null, nowMs: number): RunRecord {
  const state = record.state === "starting" || record.state === "running" ? "failed" : "rejected"
  const exit: Exit | null =
    exitCode === null ? null : { code: exitCode, signal: null, oom_killed: false, by: "process", log_tail: [] }
  return withEnding(record, { state, reason, exit, finished_at_ms: nowMs }, nowMs)
}

/** The process may have run, and the host has no trace of how it ended. */
export function lost(record: RunRecord, restarted: boolean, nowMs: number): RunRecord {
  const reason = restarted
    ? { code: "host_restarted", message: "The host restarted while the container ran." }
    : { code: "process_lost", message: "The host lost track of the process, and how it ended is not known." }
  const exit: Exit = { code: null, signal: null, oom_killed: false, by: "host", log_tail: [] }
  return withEnding(record, { state: record.stop ? "stopped" : "failed", reason, exit, finished_at_ms: nowMs }, nowMs)
}

function endedByTenantSignal(record: RunRecord, exit: Omit<Exit, "by">): boolean {
  const sent = record.tenant_signal
  return sent !== null && (exit.signal === sent || exit.code === SIGNAL_BASE + SIGNALS[sent])
}

/** The reason of a stop, with what the process made of it. */
function told(reason: Reason, exit: Omit<Exit, "by">): Reason {
  return { code: reason.code, message: `${reason.message} ${sentence(exit)}`.slice(0, 2048) }
}

function whatHappened(record: RunRecord, exit: Omit<Exit, "by">): Reason {
  // The kernel's OOM killer may have taken a child, and the first process gone on to a good end: then it is no reason.
  if (exit.oom_killed && exit.code !== 0) {
    const limit = `${formatMib(record.assignment.spec.resources.memory_bytes)} MiB`
    return { code: "oom_killed", message: `The process was killed because it used more than its ${limit} of memory.` }
  }
  if (exit.signal !== null) return { code: "signaled", message: sentence(exit) }
  if (exit.code === null) return { code: "exit_code_lost", message: sentence(exit) }
  return { code: "exited", message: sentence(exit) }
}

function sentence(exit: Omit<Exit, "by">): string {
  if (exit.signal !== null) return `The process was ended by ${exit.signal}.`
  if (exit.code === null) return "The process ended, and its exit code was lost."
  return `The process exited with code ${exit.code}.`
}

const formatMib = (bytes: number): string => String(Math.round((bytes / MIB) * 100) / 100)
