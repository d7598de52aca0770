/**
 * What follows from a container's wish and its runs, decided without doing. Every change of a container ends in `settle`:
 * it ends what must end, begins what must begin, says what each node is to make true and which events that makes. Whatever
 * needs another object is left as a mark in the outbox (`assign_due`, `release_due`, state `pending`) for saga.ts.
 */
import type { RunId } from "../../schema/ids.ts"
import { isTerminal, publicStatus } from "../../schema/lifecycle.ts"
import type { Reason } from "../../schema/protocol.ts"
import { type EventDraft, runEnded, runMade, statusChanged } from "./events.ts"
import { sameNetwork } from "./network-update.ts"
import { afterRun } from "./restart.ts"
import type { ContainerRow, RunRow } from "./rows.ts"
import { latestRun, wishView, runView } from "./view.ts"

/** A container with its runs, oldest first. Runs of which nothing is left anywhere are forgotten, but for the latest. */
export interface Group {
  readonly container: ContainerRow
  readonly runs: readonly RunRow[]
}

export interface Making {
  readonly now: number
  newRunId(): RunId
}

export interface Settled {
  readonly group: Group
  readonly events: readonly EventDraft[]
}

/** Ended runs of a live container that stay on their nodes, for their logs. */
export const KEPT_ENDED_RUNS = 3
/** The alarm looks after an outbox that nobody emptied for this long: the object has crashed in between, or a call failed. */
export const OUTBOX_BACKSTOP_MS = 5_000

/** `before` is null for a new container; `draft` is `before` with the caller's own change, `drafts` the events it adds. */
export function settle(before: Group | null, draft: Group, making: Making, drafts: readonly EventDraft[] = []): Settled {
  const events = [...drafts]
  let group = draft
  group = endPending(group, making.now)
  const ended = latestRun(group)
  const known = before?.runs.find((run) => run.id === ended?.id)
  if (ended && isTerminal(ended.state) && !(known && isTerminal(known.state))) {
    const next = afterRun(group.container, ended, making.now)
    group = replaceRun({ ...group, container: next.container }, { ...next.run, release_due: true })
    events.push(...runEnded(next.container, next.run))
  }
  if (needsRun(group, making.now)) {
    group = makeRun(group, making)
    events.push(runMade(group.container, latestRun(group)))
  }
  group = writeWishes(group)
  group = markRemoved(group, making.now)
  group = { ...group, runs: group.runs.filter((run) => keepRow(group, run)).map((run) => markOutbox(run, making.now)) }
  group = derive(group)
  const changed = statusChanged(before?.container.status ?? null, group.container, latestRun(group))
  if (changed) events.push(changed)
  return { group, events }
}

/** A new container, which has no run yet; `settle` makes the first when it is wished to run. */
export function newContainer(fields: Pick<ContainerRow, "id" | "name" | "spec" | "desired">, now: number): Group {
  const container: ContainerRow = {
    ...fields,
    cpus: fields.spec.resources.cpus,
    memory_bytes: fields.spec.resources.memory_bytes,
    created_at_ms: now,
    desired_since_ms: now,
    paused: false,
    stop_timeout_seconds: null,
    restarting: false,
    latest_run_id: null,
    next_run_at_ms: fields.desired === "running" ? now : null,
    restarts: 0,
    backoff_step: 0,
    lost_attempts: 0,
    history: [],
    image_digest: null,
    status: "created",
    active: false,
    wake_at_ms: null,
    removed_at_ms: null,
  }
  return { container, runs: [] }
}

export function replaceRun(group: Group, run: RunRow): Group {
  return { ...group, runs: group.runs.map((old) => (old.id === run.id ? run : old)) }
}

/** Gives a live run up: whatever its node says later is outranked, and the node is told to destroy it. */
export function orphanRun(run: RunRow, reason: Reason, now: number): RunRow {
  return { ...run, state: "orphaned", since_ms: now, present: false, paused: false, reason, finished_at_ms: now }
}

/** A run that no cell has placed needs no node to stop it. */
function endPending(group: Group, now: number): Group {
  const run = latestRun(group)
  if (run?.state !== "pending" || group.container.desired === "running") return group
  return replaceRun(group, { ...run, state: "stopped", since_ms: now, present: false, reason: null, finished_at_ms: now })
}

function needsRun({ container, runs }: Group, now: number): boolean {
  if (container.desired !== "running") return false
  const run = latestRun({ container, runs })
  if (run && !isTerminal(run.state)) return false
  return container.restarting || (container.next_run_at_ms !== null && container.next_run_at_ms <= now)
}

function makeRun(group: Group, making: Making): Group {
  const before = latestRun(group)
  const run: RunRow = {
    id: making.newRunId(),
    container_id: group.container.id,
    attempt: (before?.attempt ?? 0) + 1,
    created_at_ms: making.now,
    cell_id: null,
    node_id: null,
    region: null,
    devices: null,
    features: null,
    policy: null,
    state: "pending",
    since_ms: making.now,
    revision: 0,
    paused: false,
    cut_off: false,
    evacuating: null,
    present: true,
    reason: null,
    exit: null,
    image_digest: group.container.image_digest,
    started_at_ms: null,
    finished_at_ms: null,
    timings: {},
    wish_desired: "running",
    wish_paused: false,
    wish_stop_timeout_seconds: null,
    wish_network: null,
    assign_due: false,
    release_due: false,
    retry_at_ms: null,
  }
  const container = { ...group.container, latest_run_id: run.id, next_run_at_ms: null, restarting: false, paused: false }
  return { container, runs: [...group.runs, run] }
}

function writeWishes(group: Group): Group {
  const ended = group.runs.filter((run) => run.present && isTerminal(run.state))
  const tooMany = new Set(ended.slice(0, Math.max(0, ended.length - KEPT_ENDED_RUNS)).map((run) => run.id))
  return { ...group, runs: group.runs.map((run) => withWish(group.container, run, tooMany.has(run.id))) }
}

function withWish(container: ContainerRow, run: RunRow, tooOld: boolean): RunRow {
  if (run.node_id === null) return run
  const over = isTerminal(run.state)
  const destroy = run.wish_desired === "removed" || run.state === "orphaned" || container.desired === "removed" || tooOld
  const stop = container.desired === "stopped" || container.restarting
  const desired = destroy ? "removed" : over ? run.wish_desired : stop ? "stopped" : "running"
  const paused = desired === "running" && container.paused
  const timeout = over ? run.wish_stop_timeout_seconds : desired === "running" ? null : container.stop_timeout_seconds
  const network = over ? run.wish_network : container.spec.network
  const wished = { ...run, wish_desired: desired, wish_paused: paused, wish_stop_timeout_seconds: timeout, wish_network: network }
  return sameWish(wished, run) ? run : { ...wished, assign_due: true }
}

/** True when a node was told of `b` all that it would be told of `a`. */
export const sameWish = (a: RunRow, b: RunRow): boolean =>
  a.wish_desired === b.wish_desired &&
  a.wish_paused === b.wish_paused &&
  a.wish_stop_timeout_seconds === b.wish_stop_timeout_seconds &&
  sameNetwork(a.wish_network, b.wish_network)

function markRemoved(group: Group, now: number): Group {
  const { container, runs } = group
  if (container.desired !== "removed" || container.removed_at_ms !== null || runs.some((run) => run.present)) return group
  return { ...group, container: { ...container, removed_at_ms: now } }
}

const keepRow = ({ container }: Group, run: RunRow) =>
  run.present || run.assign_due || run.release_due || run.id === container.latest_run_id

function markOutbox(run: RunRow, now: number): RunRow {
  const due = run.state === "pending" || run.assign_due || run.release_due
  if (due === (run.retry_at_ms !== null)) return run
  return { ...run, retry_at_ms: due ? now + OUTBOX_BACKSTOP_MS : null }
}

/** The columns that follow from the others. */
function derive(group: Group): Group {
  const { container } = group
  const run = latestRun(group)
  const { status, deadlineMs } = publicStatus(wishView(container), runView(container, run))
  const live = run !== undefined && !isTerminal(run.state)
  // A process that is told to stop may take an hour to; until it has ended it takes up what it took before.
  const active = live || (container.desired === "running" && container.next_run_at_ms !== null)
  const wake_at_ms = container.removed_at_ms === null ? deadlineMs : null
  if (status === container.status && active === container.active && wake_at_ms === container.wake_at_ms) return group
  return { ...group, container: { ...container, status, active, wake_at_ms } }
}
