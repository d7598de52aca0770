/**
 * Which processors a run may use: as few as its limit fills, and those with the most room. A run of one processor with two
 * busy threads would else hold two at once until its quota is used up, and its neighbours would have none; and Linux 6.13 to
 * 6.18 lets a group that is busy on several processors run on one of them without its turn ever ending
 * (a group's weight changes with each of its wakings then, and each change forgives what it has used).
 * What is taken is in memory and on each run's record; a bridge that takes runs over counts them again.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import type { RunId } from "../../schema/ids.ts"
import type { CgroupLayout } from "./cgroup-layout.ts"

/** What is taken of each processor, by its number: 1 is all of it. */
export type Taken = ReadonlyMap<number, number>

/** A part of a processor that comes of adding fractions. */
const ROUNDING = 1e-9

/**
 * The processors for a run of `cpus`, each with the part that is taken of it; null when there is no room for it on all of
 * them together, as on a host that offers more than it has: then it may use any, as its neighbours' bursts let it. Pure.
 */
export function chooseProcessors(taken: Taken, cpus: number): Taken | null {
  const byRoom = [...taken].map(([number, part]) => ({ number, room: Math.max(0, 1 - part) }))
  byRoom.sort((a, b) => b.room - a.room || a.number - b.number)
  let room = 0
  for (const [index, processor] of byRoom.entries()) {
    room += processor.room
    if (index + 1 < cpus || room < cpus - ROUNDING) continue
    const chosen = byRoom.slice(0, index + 1).toSorted((a, b) => a.number - b.number)
    return new Map(chosen.map((each) => [each.number, (each.room / room) * cpus]))
  }
  return null
}

/** `0-3,8` of cpuset(7), in ascending order. */
export function parseProcessors(text: string): number[] {
  return text
    .trim()
    .split(",")
    .filter(Boolean)
    .flatMap((range) => {
      const [first = 0, last = first] = range.split("-").map(Number)
      return Array.from({ length: last - first + 1 }, (_, index) => first + index)
    })
}

export class Processors {
  readonly #all: readonly number[]
  readonly #runs = new Map<RunId, Taken>()

  /** None: this host cannot hold a run to some processors, and every run may use all. */
  constructor(all: readonly number[]) {
    this.#all = all
  }

  /** Those that this process may use itself. */
  static ofThisHost(layout: CgroupLayout): Processors {
    if (!hasCpusets(layout)) return new Processors([])
    const allowed = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? ""
    return new Processors(parseProcessors(allowed))
  }

  /** The run's processors, as cpuset(7) lists them; null for all. The same again for a run that has some. */
  take(runId: RunId, cpus: number): string | null {
    const chosen = this.#runs.get(runId) ?? chooseProcessors(this.#taken(), cpus) ?? this.#everywhere(cpus)
    this.#runs.set(runId, chosen)
    return chosen.size === this.#all.length ? null : [...chosen.keys()].join(",")
  }

  /** What a run of an earlier bridge has. */
  adopt(runId: RunId, cpus: number, list: string | null): void {
    const numbers = list === null ? [] : parseProcessors(list)
    this.#runs.set(
      runId,
      numbers.length === 0 ? this.#everywhere(cpus) : new Map(numbers.map((each) => [each, cpus / numbers.length])),
    )
  }

  release(runId: RunId): void {
    this.#runs.delete(runId)
  }

  #everywhere(cpus: number): Taken {
    return new Map(this.#all.map((number) => [number, cpus / this.#all.length]))
  }

  #taken(): Taken {
    const sums = new Map(this.#all.map((number) => [number, 0]))
    for (const run of this.#runs.values()) {
      for (const [number, part] of run) if (sums.has(number)) sums.set(number, (sums.get(number) ?? 0) + part)
    }
    return sums
  }
}

function hasCpusets({ version, mounts }: CgroupLayout): boolean {
  if (version === 1) return mounts.has("cpuset")
  const controllers = readFileSync(join(mounts.get("unified") ?? "", "cgroup.controllers"), "latin1")
  return controllers.trim().split(" ").includes("cpuset")
}
