/**
 * What a node knows of one run, as its journal keeps it and its reports tell it. The record is canonical for the node's half
 * of the lifecycle: the platform's assignment says what is wished, the record what came of it.
 */
import { z } from "zod"
import { ALL_RUN_STATES, isTerminal } from "../../schema/lifecycle.ts"
import { Assignment, Exit, Reason, Timings } from "../../schema/protocol.ts"
import type { Observation } from "../../schema/protocol.ts"
import { SignalName } from "../../schema/container.ts"

/** A stop under way: who asked first keeps the blame, however many ask later. */
export const Stop = z.strictObject({
  by: z.enum(["tenant", "platform", "host"]),
  reason: Reason,
  /** The longest that the process may take to end, whatever its own timeout says; null leaves it its own. */
  limit_seconds: z.number().min(0).nullable(),
  asked_at_ms: z.int(),
  signalled_at_ms: z.int().nullable(),
  killed_at_ms: z.int().nullable(),
})
export type Stop = z.infer<typeof Stop>

/** The record less its assignment, which the journal writes only when it changes. */
export const RunProgress = z.strictObject({
  state: z.enum(ALL_RUN_STATES),
  /** Rises with every change that is reported. */
  revision: z.int().min(0),
  paused: z.boolean(),
  at_ms: z.int(),
  image_digest: z.string().nullable(),
  started_at_ms: z.int().nullable(),
  finished_at_ms: z.int().nullable(),
  reason: Reason.nullable(),
  exit: Exit.nullable(),
  timings: Timings,
  stop: Stop.nullable(),
  /** The last signal that the tenant sent by hand: an end by that signal is the tenant's doing. */
  tenant_signal: SignalName.nullable(),
  /** The assignment's network differs from what the run has, or was prepared with. */
  network_due: z.boolean(),
  /** Which start of the machine this was written in: after another, a process that may have run cannot be asked for. */
  boot_id: z.string(),
  /** The process, mounts and network of an ended run are given back; its log is still here. */
  released: z.boolean(),
})
export type RunProgress = z.infer<typeof RunProgress>

export const RunRecord = RunProgress.extend({ assignment: Assignment })
export type RunRecord = z.infer<typeof RunRecord>

/** Stands in for a record that cannot be read: nobody knows when it was written. */
export const UNKNOWN_BOOT = ""
/** Stands in for a record that may have been lost when the host restarted. */
export const EARLIER_BOOT = "earlier"

export const newRecord = (assignment: Assignment, bootId: string, nowMs: number): RunRecord => ({
  assignment,
  state: "accepted",
  revision: 1,
  paused: false,
  at_ms: nowMs,
  image_digest: null,
  started_at_ms: null,
  finished_at_ms: null,
  reason: null,
  exit: null,
  timings: {},
  stop: null,
  tenant_signal: null,
  network_due: false,
  boot_id: bootId,
  released: false,
})

/** The record with a stop asked for; what is being stopped already keeps its reason and gets the shorter patience. */
export function withStop(record: RunRecord, asked: Pick<Stop, "by" | "reason" | "limit_seconds">, nowMs: number): RunRecord {
  const { stop } = record
  if (stop === null) return { ...record, stop: { ...asked, asked_at_ms: nowMs, signalled_at_ms: null, killed_at_ms: null } }
  const limits = [stop.limit_seconds, asked.limit_seconds].filter((limit) => limit !== null)
  return { ...record, stop: { ...stop, limit_seconds: limits.length === 0 ? null : Math.min(...limits) } }
}

export const hasEnded = (record: RunRecord): boolean => isTerminal(record.state)

export const observationOf = (record: RunRecord): Observation => ({
  run_id: record.assignment.run_id,
  state: record.state,
  revision: record.revision,
  paused: record.paused,
  at_ms: record.at_ms,
  reason: record.reason,
  exit: record.exit,
  image_digest: record.image_digest,
  started_at_ms: record.started_at_ms,
  finished_at_ms: record.finished_at_ms,
  timings: record.timings,
})
