/**
 * Reads a run's log: from a cursor, from a time, or the last so many lines, and on as it grows. Memory stays small whatever
 * the container wrote: files are read in blocks, and a tail finds its beginning by reading blocks backwards.
 */
import { closeSync, fstatSync, readSync } from "node:fs"
import { setImmediate as turn, setTimeout as delay } from "node:timers/promises"
import type { RunId } from "../../schema/ids.ts"
import type { LogEntry, LogOptions } from "../../schema/protocol.ts"
import { listLogFiles, openLogFile } from "./log-files.ts"
import { parseCursor, parseLogLine, toEntry } from "./log-format.ts"
import type { LogLine, Position } from "./log-format.ts"

const BLOCK_BYTES = 64 * 1024
/** conmon cuts lines at 8 KiB; what is longer was not written by it, and is skipped. */
const MAX_LINE_BYTES = 64 * 1024
/** How often a follower looks for more. inotify would need a watch for every reader; a stat costs microseconds. */
const FOLLOW_POLL_MS = 100
const NEWLINE = 0x0a
/**
 * Lines looked at in one turn of the event loop, some milliseconds. A full log has half a million, and a tenant may ask for one
 * that is not there as often as it likes: heartbeats and the runs of all others wait for the same thread.
 */
const LINES_PER_TURN = 1_000
/** Lines, parts of lines counted, that the record of an exit looks back at; it is read in one turn. */
const MAX_EXIT_LINES = 5 * LINES_PER_TURN

export interface LogSource {
  readonly runId: RunId
  readonly logsDir: string
  /** True when no more can come: the run's monitor is gone. Looked at before the files, so that nothing is missed. */
  readonly ended: () => boolean
}

export async function* readLog(source: LogSource, options: LogOptions, signal: AbortSignal): AsyncGenerator<LogEntry> {
  const wanted = (line: LogLine) =>
    options.streams.includes(line.stream) && (options.since_ms === null || line.timeMs >= options.since_ms)
  const after = options.after === null ? null : parseCursor(source.runId, options.after)
  const { numbers } = listLogFiles(source.logsDir)
  const oldest: Position = { file: numbers[0] ?? 0, offset: 0 }
  let position = after ?? (options.tail === null ? oldest : await tailPosition(source.logsDir, options.tail, wanted, signal))
  let lines = 0
  for (;;) {
    signal.throwIfAborted()
    const ended = source.ended()
    for (;;) {
      const fd = openLogFile(source.logsDir, position.file)
      if (fd !== null) {
        try {
          for (const { line, end } of linesFrom(fd, position.offset)) {
            position = { file: position.file, offset: end }
            if (++lines % LINES_PER_TURN === 0) await turn(undefined, { signal }).catch(() => signal.throwIfAborted())
            if (line === null || !wanted(line)) continue
            yield toEntry(source.runId, line, position)
            signal.throwIfAborted()
          }
        } finally {
          closeSync(fd)
        }
      }
      // The next file exists only once this one is whole; then read this one's rest once more before leaving it.
      const next = listLogFiles(source.logsDir).numbers.find((number) => number > position.file)
      if (next === undefined) break
      if (fd !== null && hasMore(source.logsDir, position)) continue
      position = { file: next, offset: 0 }
    }
    if (!options.follow || ended) return
    await delay(FOLLOW_POLL_MS, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

/** The last lines of both streams as plain text, parts put together, for the record of an exit. */
export function logTail(logsDir: string, count: number, maxChars: number): string[] {
  const position = recentTailPosition(logsDir, count)
  const found: string[] = []
  const begun = { stdout: "", stderr: "" }
  for (const number of listLogFiles(logsDir).numbers.filter((each) => each >= position.file)) {
    const fd = openLogFile(logsDir, number)
    if (fd === null) continue
    try {
      for (const { line } of linesFrom(fd, number === position.file ? position.offset : 0)) {
        if (line === null) continue
        const text = (begun[line.stream] + line.text).slice(0, maxChars)
        begun[line.stream] = line.partial ? text : ""
        if (!line.partial) found.push(text)
        if (found.length > count) found.shift()
      }
    } finally {
      closeSync(fd)
    }
  }
  return [...found, ...[begun.stdout, begun.stderr].filter((text) => text !== "")].slice(-count)
}

function hasMore(logsDir: string, position: Position): boolean {
  const fd = openLogFile(logsDir, position.file)
  if (fd === null) return false
  try {
    return !linesFrom(fd, position.offset).next().done
  } finally {
    closeSync(fd)
  }
}

/** Whole lines from an offset to the end of the file; `end` is the offset after each. A last line without newline waits. */
function* linesFrom(fd: number, from: number): Generator<{ line: LogLine | null; end: number }> {
  const block = Buffer.allocUnsafe(BLOCK_BYTES)
  let rest = Buffer.alloc(0)
  let restAt = from
  for (;;) {
    const size = readSync(fd, block, 0, BLOCK_BYTES, restAt + rest.length)
    if (size === 0) return
    const bytes = Buffer.concat([rest, block.subarray(0, size)])
    let start = 0
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      yield { line: parseLogLine(bytes.subarray(start, end)), end: restAt + end + 1 }
      start = end + 1
    }
    rest = bytes.subarray(start)
    restAt += start
    if (rest.length > MAX_LINE_BYTES) {
      yield { line: null, end: restAt + rest.length }
      restAt += rest.length
      rest = Buffer.alloc(0)
    }
  }
}

async function tailPosition(
  logsDir: string,
  count: number,
  wanted: (line: LogLine) => boolean,
  signal: AbortSignal,
): Promise<Position> {
  const search = tailSearch(logsDir, count, wanted)
  for (;;) {
    const { done, value } = search.next()
    if (done) return value
    await turn(undefined, { signal }).catch(() => search.throw(signal.reason))
  }
}

function recentTailPosition(logsDir: string, count: number): Position {
  const search = tailSearch(logsDir, count, () => true)
  for (let lines = LINES_PER_TURN; ; lines += LINES_PER_TURN) {
    const { done, value } = search.next()
    if (done) return value
    if (lines < MAX_EXIT_LINES) continue
    search.return(value)
    return value
  }
}

/**
 * Where the last `count` wanted lines begin, looking backwards block by block from the end of the newest file. Parts belong
 * to the line that their end is in, so that a tail never begins in the middle of one. Pauses every so many lines, where it
 * has come to.
 */
function* tailSearch(logsDir: string, count: number, wanted: (line: LogLine) => boolean): Generator<Position, Position> {
  const { numbers } = listLogFiles(logsDir)
  let lines = 0
  let missing = count
  let position: Position | null = null
  for (const number of numbers.toReversed()) {
    const fd = openLogFile(logsDir, number)
    if (fd === null) break
    try {
      for (const { line, start, end } of linesBackwards(fd, fstatSync(fd).size)) {
        position ??= { file: number, offset: end }
        if (++lines % LINES_PER_TURN === 0) yield position
        if (!wanted(line)) continue
        if (!line.partial && missing-- === 0) return position
        position = { file: number, offset: start }
      }
    } finally {
      closeSync(fd)
    }
  }
  return { file: numbers[0] ?? 0, offset: 0 }
}

/** Whole lines from the end of a file to its beginning. */
function* linesBackwards(fd: number, size: number): Generator<{ line: LogLine; start: number; end: number }> {
  let at = size
  let rest = Buffer.alloc(0) // the beginning of a line whose end was seen
  let sawEnd = false // bytes after the last newline are no line yet
  while (at > 0) {
    const length = Math.min(BLOCK_BYTES, at)
    at -= length
    const block = Buffer.alloc(length)
    readSync(fd, block, 0, length, at)
    let bytes = Buffer.concat([block, rest])
    for (;;) {
      const newline = bytes.lastIndexOf(NEWLINE)
      if (newline < 0) break
      const text = bytes.subarray(newline + 1)
      const line = sawEnd ? parseLogLine(text) : null
      if (line !== null) yield { line, start: at + newline + 1, end: at + newline + 2 + text.length }
      sawEnd = true
      bytes = bytes.subarray(0, newline)
    }
    rest = bytes.length > MAX_LINE_BYTES ? Buffer.alloc(0) : bytes
  }
  const line = sawEnd ? parseLogLine(rest) : null
  if (line !== null) yield { line, start: 0, end: rest.length + 1 }
}
