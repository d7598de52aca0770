/**
 * One step of a run on its node: from what is recorded, what is wished and what was seen of the host to the one thing to do
 * next. Pure, so that every rule is a row in a test; `run-manager.ts` performs the steps until the answer is `wait`.
 *
 * The rule that all others bend to: a process that may have run is never started again. `starting` is written down before
 * the first `start`, and from there on only an inspection of the host, in the same boot, can say that nothing ran.
 */
import type { Inspection } from "../runtime/controller.ts"
import { ended, lost, stoppedBeforeStart } from "./endings.ts"
import { hasEnded, UNKNOWN_BOOT } from "./record.ts"
import type { RunRecord, Stop } from "./record.ts"

/** After SIGKILL a process is gone in milliseconds, unless it hangs in the kernel; the signal is sent again this often. */
export const KILL_REPEAT_MS = 5_000

/** What the node knows now and does not write down. */
export interface Facts {
  /** What was last seen of the run on the host; null: not looked at since the bridge began, or a verb failed. */
  readonly seen: Inspection | null
  /** The platform's set has this run no more: nothing of it may stay. */
  readonly dropped: boolean
  readonly bootId: string
  /** Verbs on the host wait until then: one has just failed. */
  readonly notBeforeMs: number
}

export type Step =
  /** Nothing to do until something changes, or until this time. */
  | { readonly kind: "wait"; readonly untilMs: number | null }
  /** Only the record changes. */
  | { readonly kind: "record"; readonly record: RunRecord }
  | { readonly kind: "inspect" }
  /** `clear` first removes what a broken start may have left, or what was prepared with a network that has changed since. */
  | { readonly kind: "prepare"; readonly clear: boolean }
  | { readonly kind: "start" }
  /** Ask the process to end (`ask`: by its stop signal) or end it (`kill`). */
  | { readonly kind: "ask" | "kill" }
  | { readonly kind: "pause" | "unpause" }
  /** Put in force what the tenant changed of a live run's network. */
  | { readonly kind: "set_network" }
  | { readonly kind: "release" | "remove" }

export function advance(record: RunRecord, facts: Facts, nowMs: number): Step {
  const step = next(record, facts, nowMs)
  const onHost = step.kind !== "wait" && step.kind !== "record"
  return onHost && facts.notBeforeMs > nowMs ? { kind: "wait", untilMs: facts.notBeforeMs } : step
}

/** True when nothing of the run may stay on this host. */
export const mustGo = (record: RunRecord, facts: Pick<Facts, "dropped">): boolean =>
  facts.dropped || record.assignment.desired === "removed"

/** True while the wish is that the process runs: what would still lead there may go on. */
export const maySettle = (record: RunRecord, facts: Pick<Facts, "dropped">): boolean =>
  record.stop === null && record.assignment.desired === "running" && !facts.dropped

function next(record: RunRecord, facts: Facts, nowMs: number): Step {
  if (facts.dropped) return { kind: "remove" }
  if (hasEnded(record)) {
    if (mustGo(record, facts)) return { kind: "remove" }
    return record.released ? { kind: "wait", untilMs: null } : { kind: "release" }
  }
  if (facts.seen === null) return { kind: "inspect" }
  switch (facts.seen.kind) {
    case "exited":
      return { kind: "record", record: ended(record, facts.seen.outcome, nowMs) }
    case "running":
      return record.state === "running" ? steer(record, facts.seen, nowMs) : adopt(record, facts.seen, nowMs)
    case "absent":
    case "prepared":
      return approach(record, facts, facts.seen.kind, nowMs)
  }
}

/** There is no process. Either it has yet to start, or it was lost. */
function approach(record: RunRecord, facts: Facts, seen: "absent" | "prepared", nowMs: number): Step {
  const sameBoot = record.boot_id === facts.bootId
  // A line may be lost with the boot it was written in, so that of an earlier boot even `preparing` says too little.
  const mayHaveRun = record.state === "running" || !sameBoot
  if (mayHaveRun) return { kind: "record", record: lost(record, !sameBoot && record.boot_id !== UNKNOWN_BOOT, nowMs) }
  const stopping = stopFor(record, nowMs)
  if (stopping) return { kind: "record", record: stoppedBeforeStart({ ...record, stop: stopping }, nowMs) }
  switch (record.state) {
    case "accepted":
      return { kind: "record", record: risen(record, "preparing", nowMs) }
    case "preparing":
      return { kind: "prepare", clear: false }
    case "ready":
      if (seen === "prepared" && record.network_due) return { kind: "prepare", clear: true }
      return seen === "prepared" ? { kind: "start" } : { kind: "prepare", clear: false }
    case "starting":
      return seen === "prepared" && !record.network_due ? { kind: "start" } : { kind: "prepare", clear: true }
    case "pending":
    case "placed":
    case "running":
    case "completed":
    case "failed":
    case "rejected":
    case "stopped":
    case "orphaned":
      return { kind: "wait", untilMs: null }
  }
}

/** A process is there and the record does not say so yet: a start whose end was not written down. */
function adopt(record: RunRecord, seen: Inspection & { kind: "running" }, nowMs: number): Step {
  const running = { ...risen(record, "running", nowMs), started_at_ms: seen.started_at_ms, paused: seen.paused }
  return { kind: "record", record: running }
}

/** A process runs: let it, stop it, or set its pause right. */
function steer(record: RunRecord, seen: Inspection & { kind: "running" }, nowMs: number): Step {
  if (record.stop === null) {
    const stop = stopFor(record, nowMs)
    if (stop) return { kind: "record", record: { ...record, stop } }
    if (record.network_due) return { kind: "set_network" }
    if (record.assignment.paused !== seen.paused) return { kind: record.assignment.paused ? "pause" : "unpause" }
    if (record.paused !== seen.paused) return { kind: "record", record: withPaused(record, seen.paused, nowMs) }
    return { kind: "wait", untilMs: lifetimeEndsMs(record) }
  }
  return stopStep(record, record.stop, seen.paused, nowMs)
}

function stopStep(record: RunRecord, stop: Stop, paused: boolean, nowMs: number): Step {
  const timeoutMs = stopTimeoutSeconds(record, stop) * 1000
  const killAtMs = (stop.signalled_at_ms ?? nowMs) + timeoutMs
  if (stop.killed_at_ms !== null) {
    // A frozen process dies of SIGKILL only once it is thawed; it runs no instruction of its own in between.
    if (paused) return { kind: "unpause" }
    const againMs = stop.killed_at_ms + KILL_REPEAT_MS
    return nowMs >= againMs ? { kind: "kill" } : { kind: "wait", untilMs: againMs }
  }
  if (nowMs >= killAtMs) return { kind: "kill" }
  if (stop.signalled_at_ms !== null) return { kind: "wait", untilMs: killAtMs }
  return paused ? { kind: "unpause" } : { kind: "ask" }
}

/** Seconds between the stop signal and SIGKILL. The latest wish counts, so that a kill cuts a patient stop short. */
export function stopTimeoutSeconds(record: RunRecord, stop: Stop): number {
  const { desired, stop_timeout_seconds, spec } = record.assignment
  if (desired === "removed") return 0
  const own = stop_timeout_seconds ?? spec.stop.timeout_seconds
  return stop.limit_seconds === null ? own : Math.min(own, stop.limit_seconds)
}

const lifetimeEndsMs = (record: RunRecord): number | null => {
  const limit = record.assignment.spec.max_lifetime_seconds
  return limit === null || record.started_at_ms === null ? null : record.started_at_ms + limit * 1000
}

/** Who wants the run stopped now, and why; null when nobody does. */
function stopFor(record: RunRecord, nowMs: number): Stop | null {
  if (record.stop) return record.stop
  const asked = { asked_at_ms: nowMs, signalled_at_ms: null, killed_at_ms: null, limit_seconds: null }
  switch (record.assignment.desired) {
    case "removed":
      return { ...asked, by: "tenant", reason: { code: "removed", message: "The container was removed." } }
    case "stopped": {
      const { stop_reason } = record.assignment
      if (stop_reason) return { ...asked, by: "platform", reason: stop_reason }
      return { ...asked, by: "tenant", reason: { code: "stopped", message: "The container was told to stop." } }
    }
    case "running":
      break
  }
  const endsMs = lifetimeEndsMs(record)
  if (endsMs === null || nowMs < endsMs) return null
  const limit = record.assignment.spec.max_lifetime_seconds
  const message = `The run was stopped because it reached its longest lifetime of ${limit} s.`
  return { ...asked, by: "platform", reason: { code: "lifetime_exceeded", message } }
}

/** The record, one state further. */
export function risen(record: RunRecord, state: "preparing" | "ready" | "starting" | "running", nowMs: number): RunRecord {
  return { ...record, state, revision: record.revision + 1, at_ms: nowMs }
}

export function withPaused(record: RunRecord, paused: boolean, nowMs: number): RunRecord {
  return { ...record, paused, revision: record.revision + 1, at_ms: nowMs }
}
