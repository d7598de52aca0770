/**
 * Says what a history breaks of what is promised. Pure, and each rule is shown to catch what it is for (`history-check.test.ts`).
 *
 * Promised, and nothing else:
 * - A container that was answered is there, and comes to what was wished or says why not.
 * - A run's process is started once at most. A container with restart `no` gets another run only from its tenant, or for a run
 *   that was given up before anybody heard of its start; whether that one had started all the same nobody could know.
 * - No two processes of one container live at once, but for `start_first` in a drain, and for the windows stated in
 *   `history-processes.ts`: a run that was given up may take so long to end after the next one began.
 * - Quotas, nodes' capacities, one credit for each reservation, one container for each key, each event once and in order.
 */
import type { ContainerId, RunId } from "../../schema/ids.ts"
import { checkEvents } from "./history-events.ts"
import { checkProcesses, firstAt, OVERLAP_MS } from "./history-processes.ts"
import { all, type Amount, type History, type Of } from "./history.ts"

export { OVERLAP_MS }

export const RULES = [
  "lost_job", "stuck", "disobeyed", "unasked", "key_made_two", "two_holders", "started_twice", "ran_again", "quota_exceeded",
  "node_overfull", "orphan_left", "reservation_leaked", "reservation_missing", "credited_twice", "event_missing", "event_twice",
  "event_out_of_order",
] as const // prettier-ignore
export type Rule = (typeof RULES)[number]

export interface Violation {
  readonly rule: Rule
  readonly what: string
}

export type Find = (rule: Rule, what: string) => void

/** Entries may come in any order. */
export function check(recorded: History, overlapMs: Readonly<Record<string, number>> = OVERLAP_MS): Violation[] {
  const history = { ...recorded, entries: recorded.entries.toSorted((a, b) => a.at_ms - b.at_ms) }
  const found: Violation[] = []
  const find: Find = (rule, what) => found.push({ rule, what })
  checkContainers(history, find)
  checkProcesses(history, overlapMs, find)
  checkQuota(history, find)
  checkReservations(history, find)
  checkEvents(history, find)
  return found
}

const EXPLAINED = ["no_capacity", "restart_backoff", "gave_up"]

function checkContainers(history: History, find: Find): void {
  const byKey = new Map<string, ContainerId>()
  const asked = new Map<ContainerId, Of<"asked">>()
  for (const entry of all(history, "asked")) {
    const key = `${entry.tenant} ${entry.key}`
    const known = byKey.get(key)
    if (known !== undefined && known !== entry.container)
      find("key_made_two", `key ${entry.key} was answered with ${known} and ${entry.container}`)
    byKey.set(key, entry.container)
    asked.set(entry.container, entry)
  }
  const acted = Map.groupBy(all(history, "acted"), (entry) => entry.container)
  const final = new Map(history.final.containers.map((container) => [container.id, container]))
  for (const container of final.values())
    if (!asked.has(container.id)) find("unasked", `nobody was answered with ${container.id}, which is ${container.status}`)
  for (const [id, ask] of asked) {
    const last = acted.get(id)?.at(-1)?.action ?? (ask.start ? "start" : "stop")
    const container = final.get(id)
    if (container === undefined) {
      find("lost_job", `${id} was answered and is not there`)
      continue
    }
    const { status, reason } = container
    if (["pulling", "starting", "stopping"].includes(status)) find("stuck", `${id} is ${status} and stays so`)
    if (status === "scheduling" && !EXPLAINED.includes(reason ?? "")) find("stuck", `${id} is scheduling and does not say why`)
    if (status === "removed" && last !== "remove" && !ask.remove_on_exit) find("lost_job", `${id} was removed by nobody`)
    if (last === "remove" && status !== "removed") find("disobeyed", `${id} was to be removed and is ${status}`)
    if ((last === "stop" || last === "kill") && ["running", "paused", "scheduling"].includes(status))
      find("disobeyed", `${id} was to stop and is ${status}`)
    const keptUp = ask.restart === "always" && (last === "start" || last === "restart")
    if (keptUp && ["exited", "lost", "created"].includes(status) && !EXPLAINED.includes(reason ?? ""))
      find("lost_job", `${id} is to be kept running and is ${status}: ${reason}`)
  }
}

/** Thousandths of processors: sums of fractions must not trip over binary rounding. */
const exceeds = (used: Amount, limit: Amount) =>
  Math.round(used.cpus * 1000) > Math.round(limit.cpus * 1000) || used.memory_bytes > limit.memory_bytes
const plus = (a: Amount, b: Amount, sign: 1 | -1 = 1): Amount => ({
  cpus: a.cpus + sign * b.cpus,
  memory_bytes: a.memory_bytes + sign * b.memory_bytes,
})
const NOTHING: Amount = { cpus: 0, memory_bytes: 0 }

/** By the tenant's own count, and by the processes that live: each container once, for overlaps have a rule of their own. */
function checkQuota(history: History, find: Find): void {
  const quotas = new Map(all(history, "quota").map((entry) => [entry.tenant, entry]))
  const told = new Set<string>()
  const over = (tenant: string, what: string) => {
    if (told.has(tenant)) return
    told.add(tenant)
    find("quota_exceeded", `${tenant}: ${what}`)
  }
  const asks = new Map(all(history, "asked").map((entry) => [entry.container, entry]))
  const orphanedAt = firstAt(all(history, "orphaned"))
  const of = new Map<RunId, ContainerId>()
  const live = new Map<ContainerId, Set<RunId>>()
  const used = new Map<string, { containers: number; amount: Amount }>()
  const count = (container: ContainerId, sign: 1 | -1) => {
    const ask = asks.get(container)
    if (ask === undefined) return
    const before = used.get(ask.tenant) ?? { containers: 0, amount: NOTHING }
    used.set(ask.tenant, { containers: before.containers + sign, amount: plus(before.amount, ask.asks, sign) })
  }
  const leave = (run: RunId) => {
    const container = of.get(run)
    const runs = container && live.get(container)
    if (container && runs?.delete(run) && runs.size === 0) count(container, -1)
  }
  for (const entry of history.entries) {
    if (entry.kind === "exited" || entry.kind === "destroyed" || entry.kind === "orphaned") leave(entry.run)
    if (entry.kind === "started" && !((orphanedAt.get(entry.run) ?? Number.POSITIVE_INFINITY) <= entry.at_ms)) {
      of.set(entry.run, entry.container)
      const runs = live.get(entry.container) ?? new Set()
      live.set(entry.container, runs)
      if (runs.size === 0) count(entry.container, 1)
      runs.add(entry.run)
      const quota = quotas.get(entry.tenant)
      const now = used.get(entry.tenant)
      if (quota && now && (now.containers > quota.containers || exceeds(now.amount, quota.limit)))
        over(entry.tenant, `${now.containers} containers of it ran at once, with ${JSON.stringify(now.amount)}`)
    }
    if (entry.kind === "used") {
      const quota = quotas.get(entry.tenant)
      if (quota && (entry.containers > quota.containers || exceeds(entry.amount, quota.limit)))
        over(entry.tenant, `it counted ${entry.containers} containers, with ${JSON.stringify(entry.amount)}`)
    }
  }
}

function checkReservations(history: History, find: Find): void {
  const capacities = new Map(all(history, "capacity").map((entry) => [entry.node, entry]))
  const held = new Map<string, Of<"reserved">>()
  const onNode = new Map<string, { runs: number; amount: Amount }>()
  const book = (entry: Of<"reserved">, sign: 1 | -1) => {
    const before = onNode.get(entry.node) ?? { runs: 0, amount: NOTHING }
    const after = { runs: before.runs + sign, amount: plus(before.amount, entry.amount, sign) }
    onNode.set(entry.node, after)
    const capacity = capacities.get(entry.node)
    if (sign === 1 && capacity && (after.runs > capacity.runs || exceeds(after.amount, capacity.offers)))
      find("node_overfull", `${entry.node} was given ${after.runs} runs with ${JSON.stringify(after.amount)}`)
  }
  const seesCells = history.entries.some((entry) => entry.kind === "reserved")
  for (const entry of history.entries) {
    if (entry.kind === "reserved") {
      held.set(`${entry.cell} ${entry.run}`, entry)
      book(entry, 1)
    }
    if (entry.kind === "credited") {
      const key = `${entry.cell} ${entry.run}`
      const booked = held.get(key)
      if (booked === undefined) find("credited_twice", `${entry.cell} gave ${entry.run} back, which it did not hold`)
      else book(booked, -1)
      held.delete(key)
    }
  }
  const live = new Map(
    history.final.containers.flatMap(({ id, run }) => (run !== null && holdsNode(run.state) ? [[run.id, id] as const] : [])),
  )
  if (seesCells) {
    const byRun = new Set([...held.values()].map((entry) => entry.run))
    for (const run of byRun) if (!live.has(run)) find("reservation_leaked", `${run} has ended and is still booked`)
    for (const run of live.keys()) if (!byRun.has(run)) find("reservation_missing", `${run} lives and nothing is booked for it`)
  }
  const asks = new Map(all(history, "asked").map((entry) => [entry.container, entry.asks]))
  const sum = [...live.values()].reduce((total, id) => plus(total, asks.get(id) ?? NOTHING), NOTHING)
  const { reserved } = history.final
  const counted = `cells count ${reserved.runs} runs with ${reserved.cpus} processors and ${reserved.memory_bytes} bytes; ${live.size} live, with ${sum.cpus} and ${sum.memory_bytes}`
  if (reserved.runs > live.size || exceeds(reserved, sum)) find("reservation_leaked", counted)
  if (reserved.runs < live.size || exceeds(sum, reserved)) find("reservation_missing", counted)
}

const holdsNode = (state: string) => ["placed", "accepted", "preparing", "ready", "starting", "running"].includes(state)
