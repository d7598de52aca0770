/**
 * When a host must take no more runs for want of memory. What is promised is counted by the cell; this is for what the count does
 * not see: other programs, kernel memory, over-commitment by the operator's own figures. Pure.
 *
 * Stalls alone (PSI) would not do: a container that thrashes at its own limit stalls as well, and one tenant could keep all new
 * runs away. They count only where memory is short all the same.
 */
import { GIB, MIB } from "../../schema/container.ts"
import type { NodeCondition } from "../../schema/node.ts"

export interface Memory {
  readonly totalBytes: number
  /** What may be taken without swapping, as the kernel estimates it. */
  readonly availableBytes: number
  /** Percent of the last minute in which no process could go on for want of memory; null where the kernel does not count it. */
  readonly stalledPercent: number | null
}

const FLOOR_SHARE = 0.04
const MOST_FLOOR_BYTES = GIB
/** Less than this many floors, and stalls count. */
const SHORT = 2
const STALLED_PERCENT = 10
/** The condition ends only well above where it began: the estimate swings by hundreds of MiB. */
const RECOVERED = 1.5

/** `pressed` is what the last look found. Null: there is enough. */
export function memoryPressure({ totalBytes, availableBytes, stalledPercent }: Memory, pressed: boolean): NodeCondition | null {
  const floor = Math.min(totalBytes * FLOOR_SHARE, MOST_FLOOR_BYTES) * (pressed ? RECOVERED : 1)
  const stalls = (stalledPercent ?? 0) >= STALLED_PERCENT / (pressed ? RECOVERED : 1)
  if (availableBytes >= floor && !(stalls && availableBytes < floor * SHORT)) return null
  const left = `The node has only ${Math.floor(availableBytes / MIB)} MiB of memory left`
  const message = stalls ? `${left}, and its processes wait for memory ${stalledPercent} % of the time.` : `${left}.`
  return { kind: "memory_pressure", message }
}

/** Of /proc/meminfo and /proc/pressure/memory (null where there is none); undefined when the first cannot be read. */
export function parseMemory(meminfo: string, pressure: string | null): Memory | undefined {
  const kib = (name: string) => new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(meminfo)?.[1]
  const [total, available] = [kib("MemTotal"), kib("MemAvailable")]
  if (total === undefined || available === undefined) return undefined
  const stalled = pressure === null ? undefined : /^full .*\bavg60=([\d.]+)/m.exec(pressure)?.[1]
  return {
    totalBytes: Number(total) * 1024,
    availableBytes: Number(available) * 1024,
    stalledPercent: stalled === undefined ? null : Number(stalled),
  }
}
