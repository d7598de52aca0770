/**
 * A run's log on disk: `current`, which conmon writes, and older files `0`, `1`, … that were rotated away. The number of
 * `current` is one above the highest. Rotation renames it and tells conmon through its control pipe to open a new one; the
 * old file is whole once the new one exists, for conmon goes on writing to the renamed one until then.
 */
import { closeSync, constants, openSync, readdirSync, renameSync, statSync, unlinkSync, writeSync } from "node:fs"
import { join } from "node:path"
import type { RunPaths } from "./paths.ts"

/** A run keeps at most this much log three times over; conmon has no limit of its own that keeps the newest lines. */
export const MAX_LOG_BYTES = 8 * 1024 * 1024
export const LOG_FILES_KEPT = 3

/** conmon's message "reopen the log": a window change of no terminal. */
const REOPEN = "2 0 0\n"

export interface LogFiles {
  /** Numbers of the files that exist, rising; the last may be `current`. */
  readonly numbers: readonly number[]
  /** The number of `current`; null while conmon has not opened the next one. */
  readonly current: number | null
}

export function listLogFiles(logsDir: string): LogFiles {
  let names: string[] = []
  try {
    names = readdirSync(logsDir)
  } catch {
    return { numbers: [], current: null }
  }
  const rotated = names
    .filter((name) => /^\d{1,10}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b)
  if (!names.includes("current")) return { numbers: rotated, current: null }
  const current = (rotated.at(-1) ?? -1) + 1
  return { numbers: [...rotated, current], current }
}

/** Opens a file by its number, whichever name it has now; null when it was deleted. */
export function openLogFile(logsDir: string, number: number): number | null {
  // Twice: it may be renamed between the two names.
  for (const name of [String(number), "current", String(number)]) {
    if (name === "current" && listLogFiles(logsDir).current !== number) continue
    try {
      return openSync(join(logsDir, name), "r")
    } catch {
      // Not under this name.
    }
  }
  return null
}

/** Rotates when `current` is over the limit, mends a rotation that a crash cut in two, and deletes the oldest. */
export function rotateLog(paths: RunPaths, maxBytes = MAX_LOG_BYTES): void {
  const { numbers, current } = listLogFiles(paths.logs)
  if (current === null) {
    if (numbers.length > 0) askToReopen(paths.ctl) // renamed, and the control message was lost
    return
  }
  if (statSync(paths.log).size <= maxBytes) return
  renameSync(paths.log, join(paths.logs, String(current)))
  askToReopen(paths.ctl)
  for (const number of numbers.filter((each) => each <= current + 1 - LOG_FILES_KEPT)) {
    unlinkSync(join(paths.logs, String(number)))
  }
}

/** Never waits: without a monitor at the other end there is nobody to reopen anything. */
function askToReopen(ctl: string): void {
  let fd: number
  try {
    fd = openSync(ctl, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch {
    return
  }
  try {
    writeSync(fd, REOPEN)
  } finally {
    closeSync(fd)
  }
}
