/** The rules of `history-check.ts` for what really ran: never two at once, nothing twice, nothing left behind. */
import type { ContainerId, RunId } from "../../schema/ids.ts"
import type { RunState } from "../../schema/lifecycle.ts"
import { LEASE_SECONDS } from "../../schema/protocol.ts"
import type { Find } from "./history-check.ts"
import { all, type History, type Of } from "./history.ts"

/**
 * How long two may live, by the reason's code for which the older one was given up. A lease that lapsed leaves none: its node
 * stopped the run before. A run that is given up for being slow, or because its node was forgotten, ends when its node hears of
 * it, or when the node's own lease ends.
 */
export const OVERLAP_MS: Readonly<Record<string, number>> = {
  node_lost: 0,
  deadline_exceeded: LEASE_SECONDS * 1000,
  node_forgotten: LEASE_SECONDS * 1000,
}

/** A process on a host; `until_ms` is infinite while it lives. */
interface Process {
  readonly run: RunId
  readonly container: ContainerId
  readonly from_ms: number
  readonly until_ms: number
}

export function checkProcesses(history: History, overlapMs: Readonly<Record<string, number>>, find: Find): void {
  const ended = firstAt([...all(history, "exited"), ...all(history, "destroyed")])
  const processes = all(history, "started").map(({ run, container, at_ms }): Process => ({
    run,
    container,
    from_ms: at_ms,
    until_ms: ended.get(run) ?? Number.POSITIVE_INFINITY,
  }))
  const starts = new Map<RunId, number>()
  for (const { run } of processes) starts.set(run, (starts.get(run) ?? 0) + 1)
  for (const [run, times] of starts) if (times > 1) find("started_twice", `${run} was started ${times} times`)

  const orphaned = new Map(all(history, "orphaned").map((entry) => [entry.run, entry]))
  const relieved = new Set(all(history, "relieved").map((entry) => entry.run))
  for (const [container, list] of Map.groupBy(processes, (process) => process.container)) {
    const inOrder = list.toSorted((a, b) => a.from_ms - b.from_ms)
    for (const [i, older] of inOrder.entries()) {
      for (const younger of inOrder.slice(i + 1)) {
        const overlap = older.until_ms - younger.from_ms
        if (older.run === younger.run || overlap <= 0 || relieved.has(older.run) || relieved.has(younger.run)) continue
        // Whichever of the two was given up is the one that may take its time.
        const given = orphaned.get(older.run) ?? orphaned.get(younger.run)
        const allowed = given === undefined ? 0 : (overlapMs[given.code] ?? 0)
        if (overlap > allowed)
          find(
            "two_holders",
            `${container}: ${older.run} lived ${overlap} ms beside ${younger.run} (${given?.code ?? "not given up"})`,
          )
      }
    }
  }
  checkAgain(history, orphaned, find)

  const gone = new Set(all(history, "destroyed").map((entry) => entry.run))
  const connected = new Set(history.final.connected)
  for (const { run, node } of all(history, "accepted"))
    if (orphaned.has(run) && connected.has(node) && !gone.has(run))
      find("orphan_left", `${run} was given up and is still on ${node}`)
}

export const firstAt = (entries: readonly { run: RunId; at_ms: number }[]) => {
  const first = new Map<RunId, number>()
  for (const { run, at_ms } of entries) first.set(run, Math.min(first.get(run) ?? at_ms, at_ms))
  return first
}

const MAY_HAVE_RUN: readonly RunState[] = ["starting", "running", "completed", "failed"]

/** Of containers with restart `no`: one run for each time that the tenant wanted one, and none of which nobody had heard. */
function checkAgain(history: History, orphaned: ReadonlyMap<RunId, Of<"orphaned">>, find: Find): void {
  const heard = firstAt(all(history, "reported").filter((entry) => MAY_HAVE_RUN.includes(entry.state)))
  const relieved = new Set(all(history, "relieved").map((entry) => entry.run))
  const unheard = (run: RunId) => {
    const given = orphaned.get(run)
    return given?.code === "deadline_exceeded" && (heard.get(run) ?? Number.POSITIVE_INFINITY) >= given.at_ms
  }
  const left = new Map(all(history, "asked").flatMap(({ container, restart }) => (restart === "no" ? [[container, 1]] : [])))
  const ran = new Map<ContainerId, RunId>()
  for (const entry of history.entries) {
    if (entry.kind !== "called" && entry.kind !== "started") continue
    const { container } = entry
    const count = left.get(container)
    if (count === undefined) continue
    if (entry.kind === "called") {
      if (entry.action === "start" || entry.action === "restart") left.set(container, count + 1)
      continue
    }
    const before = ran.get(container)
    ran.set(container, entry.run)
    if (before === entry.run) continue
    const excused = before !== undefined && (relieved.has(before) || unheard(before))
    left.set(container, count - (excused ? 0 : 1))
    if (!excused && count <= 0)
      find("ran_again", `${container} has restart no, ran as ${before}, and was started again as ${entry.run}`)
  }
}
