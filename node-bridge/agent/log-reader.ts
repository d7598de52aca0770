/**
 * The log of a container: that of its runs on this node, one after the other, followed only on the last. A cursor names the
 * run it belongs to, so that a reader that comes back goes on in the right one.
 */
import { RunId } from "../../schema/ids.ts"
import type { LogEntry, LogOptions } from "../../schema/protocol.ts"
import type { Controller } from "../runtime/controller.ts"

type Logs = Pick<Controller, "logs">

export async function* readLogs(
  controller: Logs,
  runIds: readonly RunId[],
  options: LogOptions,
  signal: AbortSignal,
): AsyncGenerator<LogEntry> {
  const from = parseCursor(options.after)
  // Run ids sort by the time they were made: runs before the cursor's were read to their end.
  const runs = runIds.filter((runId) => from === null || runId >= from.runId)
  const tails = await shareTail(controller, runs, options, signal)
  for (const [index, runId] of runs.entries()) {
    const tail = tails[index] ?? null
    const last = index === runs.length - 1
    if (tail === 0 && !last) continue
    const after = from?.runId === runId ? from.cursor : null
    for await (const entry of controller.logs(runId, { ...options, tail, after, follow: options.follow && last }, signal)) {
      yield { ...entry, cursor: `${runId}/${entry.cursor}` }
    }
  }
}

/** How many of the last lines each run gives, so that together they are the last `tail` lines. */
async function shareTail(
  controller: Logs,
  runs: readonly RunId[],
  options: LogOptions,
  signal: AbortSignal,
): Promise<(number | null)[]> {
  let left = options.tail
  if (left === null || runs.length < 2) return runs.map(() => options.tail)
  const shares: number[] = []
  for (const runId of runs.toReversed()) {
    shares.unshift(left)
    // The oldest run gives whatever is left, however much it has.
    if (left === 0 || shares.length === runs.length) continue
    let lines = 0
    for await (const entry of controller.logs(runId, { ...options, tail: left, after: null, follow: false }, signal)) {
      if (!entry.partial) lines += 1
    }
    left = Math.max(left - lines, 0)
  }
  return shares
}

function parseCursor(after: string | null): { runId: RunId; cursor: string } | null {
  if (after === null) return null
  const slash = after.indexOf("/")
  const runId = RunId.safeParse(after.slice(0, slash))
  return runId.success ? { runId: runId.data, cursor: after.slice(slash + 1) } : null
}
