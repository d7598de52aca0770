/**
 * Which process is meant: a pid and when it started, since pids are used again. A zombie is dead: its parent may take a
 * second or more to reap it, and `kill(pid, 0)` still finds it all that time.
 */
import { readFileSync } from "node:fs"

export interface ProcessIdentity {
  readonly pid: number
  /** Field 22 of `/proc/PID/stat`: clock ticks since boot. */
  readonly startTicks: number
}

interface Stat {
  readonly state: string
  readonly parent: number
  readonly startTicks: number
}

/** Clock ticks in a second: `sysconf(_SC_CLK_TCK)`, which is 100 wherever Linux runs Node. */
const TICKS_PER_SECOND = 100

export function parseStat(text: string): Stat | null {
  // The name in parentheses may hold spaces and parentheses itself: count from the last one.
  const rest = text.slice(text.lastIndexOf(")") + 2).split(" ")
  const [state, parent] = rest
  const startTicks = Number(rest[19])
  if (state === undefined || parent === undefined || !Number.isFinite(startTicks)) return null
  return { state, parent: Number(parent), startTicks }
}

function readStat(pid: number): Stat | null {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return null
  }
}

/** The identity of a live process; null when there is none or it is a zombie. */
export function identify(pid: number): ProcessIdentity | null {
  const stat = readStat(pid)
  return stat === null || isDead(stat.state) ? null : { pid, startTicks: stat.startTicks }
}

export function isAlive(target: ProcessIdentity): boolean {
  const stat = readStat(target.pid)
  return stat !== null && stat.startTicks === target.startTicks && !isDead(stat.state)
}

const isDead = (state: string) => state === "Z" || state === "X" || state === "x"

/** Sends a signal when it is still that process; says whether it was sent. */
export function sendSignal(target: ProcessIdentity, signal: number): boolean {
  if (!isAlive(target)) return false
  try {
    process.kill(target.pid, signal)
    return true
  } catch {
    return false
  }
}

/** When a process began, Unix milliseconds, from the ticks; as exact as a tick. */
export function startedAtMs(identity: ProcessIdentity): number {
  const bootSeconds = Number(/^btime (\d+)$/m.exec(readFileSync("/proc/stat", "utf8"))?.[1] ?? 0)
  return bootSeconds * 1000 + (identity.startTicks * 1000) / TICKS_PER_SECOND
}

export const bootId = (): string => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
