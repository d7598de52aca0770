/**
 * What follows from a container's wish and its runs, decided without doing. Every change of a container ends in `settle`:
 * it ends what must end, begins what must begin, says what each node is to make true and which events that makes. Whatever
 * needs another object is left as a mark in the outbox (`assign_due`, `release_due`, state `pending`) for saga.ts.
 */
import type { CellId, RunId } from "../../schema/ids.ts"
import { isTerminal, publicStatus } from "../../schema/lifecycle.ts"
import { isBlocked, nextWake } from "./deadlines.ts"
import { afterSuccessor, takeOver } from "./evacuation.ts"
import { type EventDraft, runEnded, runMade, statusChanged } from "./events.ts"
import { endUnheard, type Group, isSuccessor, latestRun, replaceRun, successorOf } from "./group.ts"
import { remembered } from "./history.ts"
import { sameNetwork } from "./network-update.ts"
import { afterRun } from "./restart.ts"
import type { ContainerRow, RunRow } from "./rows.ts"
import { wishView, runView } from "./view.ts"

export interface Making {
  readonly now: number
  newRunId(): RunId
  /** The cell that a new run is to ask; null while there is a choice, or none. */
  readonly cell: CellId | null
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
  const { now } = making
  let group = takeOver(endPending(draft, now))
  const over = new Set(before?.runs.filter((run) => isTerminal(run.state)).map((run) => run.id))
  const take = (run: RunRow | undefined) => {
    if (run === undefined || !isTerminal(run.state) || over.has(run.id)) return
    over.add(run.id)
    const next = ended(group, run, now)
    group = next.group
    events.push(...next.events)
  }
  take(latestRun(group))
  group = endSurplus(takeOver(group), now)
  group.runs.forEach(take)
  if (needsRun(group, now)) {
    group = makeRun(group, making)
    events.push(runMade(group.container, group.runs.at(-1)))
  }
  group = writeWishes(group)
  group = markRemoved(group, now)
  group = { ...group, runs: group.runs.filter((run) => keepRow(group, run)).map((run) => markOutbox(run, now)) }
  group = derive(group)
  const changed = statusChanged(before?.container ?? null, group.container, latestRun(group))
  if (changed) events.push(changed)
  return { group, events }
}

/** `run` has just come to its end. */
function ended(group: Group, run: RunRow, now: number): Settled {
  const moved = run.state === "stopped" && group.container.desired === "running"
  const over: RunRow = { ...run, reason: run.reason ?? (moved ? run.evacuating : null), release_due: true }
  const latest = latestRun(group)
  if (run.id !== latest?.id) {
    const known = replaceRun({ ...group, container: remembered(group.container, over) }, over)
    const wasSuccessor = latest !== undefined && run.attempt > latest.attempt
    return { group: wasSuccessor ? afterSuccessor(known, now) : known, events: runEnded(over, null) }
  }
  const next = afterRun(group.container, over, now)
  // A restart by hand, or a move: the next run is due at once.
  const due = next.container.restarting ? { restarting: false, next_run_at_ms: now } : {}
  const container = { ...remembered(next.container, next.run), ...due }
  const restartAt = next.container.restarting ? null : container.next_run_at_ms
  return { group: replaceRun({ ...group, container }, next.run), events: runEnded(next.run, restartAt) }
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

/** Runs that no cell has placed need no node to stop them. */
function endPending(group: Group, now: number): Group {
  if (group.container.desired === "running") return group
  const end = (run: RunRow) => (run.state === "pending" ? endUnheard(run, "stopped", null, now) : run)
  return group.runs.some((run) => run.state === "pending") ? { ...group, runs: group.runs.map(end) } : group
}

/** A successor that is not needed any more, for its container has come to its end, and that no cell has placed. */
function endSurplus(group: Group, now: number): Group {
  const latest = latestRun(group)
  const surplus = successorOf(group)
  if (!latest || !isTerminal(latest.state) || surplus?.state !== "pending") return group
  return replaceRun(group, endUnheard(surplus, "stopped", null, now))
}

function needsRun(group: Group, now: number): boolean {
  const { desired, next_run_at_ms } = group.container
  return desired === "running" && next_run_at_ms !== null && next_run_at_ms <= now && !isBlocked(group)
}

function makeRun(group: Group, making: Making): Group {
  const before = latestRun(group)
  const run: RunRow = {
    id: making.newRunId(),
    container_id: group.container.id,
    attempt: group.runs.reduce((most, { attempt }) => Math.max(most, attempt), 0) + 1,
    created_at_ms: making.now,
    cell_id: making.cell,
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
  const runs = [...group.runs, run]
  const container = { ...group.container, next_run_at_ms: null }
  // Beside a run that still lives it is a successor, until it takes over.
  if (before && !isTerminal(before.state)) return { container, runs }
  return { container: { ...container, latest_run_id: run.id, paused: false }, runs }
}

function writeWishes(group: Group): Group {
  const left = group.runs.filter((run) => run.present && isTerminal(run.state))
  const tooMany = new Set(left.slice(0, Math.max(0, left.length - KEPT_ENDED_RUNS)).map((run) => run.id))
  return { ...group, runs: group.runs.map((run) => withWish(group, run, tooMany.has(run.id))) }
}

function withWish(group: Group, run: RunRow, tooOld: boolean): RunRow {
  const { container } = group
  if (run.node_id === null) return run
  const over = isTerminal(run.state)
  const destroy = run.wish_desired === "removed" || run.state === "orphaned" || container.desired === "removed" || tooOld
  // What was told to stop once is never told to go on.
  const stop = run.wish_desired === "stopped" || container.desired === "stopped" || !isWanted(group, run)
  const desired = destroy ? "removed" : over ? run.wish_desired : stop ? "stopped" : "running"
  const paused = desired === "running" && container.paused
  const timeout = over ? run.wish_stop_timeout_seconds : desired === "running" ? null : container.stop_timeout_seconds
  const network = over ? run.wish_network : container.spec.network
  const wished = { ...run, wish_desired: desired, wish_paused: paused, wish_stop_timeout_seconds: timeout, wish_network: network }
  return sameWish(wished, run) ? run : { ...wished, assign_due: true }
}

/** Of an older run another has taken over; a successor is for nothing once the run before it has ended for good. */
function isWanted(group: Group, run: RunRow): boolean {
  const latest = latestRun(group)
  if (run.id === latest?.id) return !group.container.restarting
  return latest !== undefined && !isTerminal(latest.state) && isSuccessor(run, latest)
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
  const { status } = publicStatus(wishView(container), runView(container, run))
  const live = group.runs.some((one) => !isTerminal(one.state))
  // A process that is told to stop may take an hour to; until it has ended it takes up what it took before.
  const active = live || (container.desired === "running" && container.next_run_at_ms !== null)
  const wake_at_ms = nextWake(group)
  if (status === container.status && active === container.active && wake_at_ms === container.wake_at_ms) return group
  return { ...group, container: { ...container, status, active, wake_at_ms } }
}
