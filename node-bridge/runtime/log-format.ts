/**
 * One line of conmon's `k8s-file` log: `TIME STREAM TAG TEXT`, TAG being F for a whole line or the end of one, P for a
 * part. The text is the container's own bytes and may be anything: it is decoded as UTF-8 with replacement.
 * Source: https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
 */
import type { RunId } from "../../schema/ids.ts"
import type { LogEntry } from "../../schema/protocol.ts"

/** Where a line ends: which file of the run (they count up as the log rotates) and the byte after its newline. */
export interface Position {
  readonly file: number
  readonly offset: number
}

export interface LogLine {
  /** RFC 3339 in UTC, with conmon's nanoseconds. */
  readonly time: string
  readonly timeMs: number
  readonly stream: "stdout" | "stderr"
  readonly partial: boolean
  readonly text: string
}

const SPACE = 0x20

/** Reads a line without its newline; null for one that conmon did not write whole. */
export function parseLogLine(bytes: Buffer): LogLine | null {
  const first = bytes.indexOf(SPACE)
  const second = bytes.indexOf(SPACE, first + 1)
  const third = bytes.indexOf(SPACE, second + 1)
  if (first < 0 || second < 0 || third < 0) return null
  const stamp = bytes.toString("latin1", 0, first)
  const timeMs = Date.parse(stamp)
  const stream = bytes.toString("latin1", first + 1, second)
  const tag = bytes.toString("latin1", second + 1, third)
  if (Number.isNaN(timeMs) || (stream !== "stdout" && stream !== "stderr")) return null
  return { time: inUtc(stamp, timeMs), timeMs, stream, partial: tag.startsWith("P"), text: bytes.toString("utf8", third + 1) }
}

/** conmon writes the host's local time; its offset is in whole minutes, so all below the second stays as it is. */
const inUtc = (stamp: string, timeMs: number) =>
  `${new Date(timeMs).toISOString().slice(0, 19)}${/\.\d+/.exec(stamp)?.[0] ?? ""}Z`

/** Stable across rotation: a file keeps its number when it is renamed. */
export const formatCursor = (runId: RunId, { file, offset }: Position) => `${runId}.${file}.${offset}`

/** The position in a cursor of this run; null when it is not one. */
export function parseCursor(runId: RunId, cursor: string): Position | null {
  const match = /^(run_[0-9a-z]+)\.(\d{1,10})\.(\d{1,15})$/.exec(cursor)
  return match === null || match[1] !== runId ? null : { file: Number(match[2]), offset: Number(match[3]) }
}

export function toEntry(runId: RunId, line: LogLine, end: Position): LogEntry {
  return {
    run_id: runId,
    time: line.time,
    stream: line.stream,
    partial: line.partial,
    text: line.text,
    cursor: formatCursor(runId, end),
  }
}
