/**
 * A thread that asks the kernel, some times a second, which runs have live processes: the cgroups of all bridges of the machine.
 * It believes nobody: a run counts from when one of its processes is the program that the container is to run, whose argument
 * says which container that is, until its cgroup is empty.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { parentPort, workerData } from "node:worker_threads"
import { RunId } from "../../schema/ids.ts"

export interface SamplerOptions {
  /** Where the runs' cgroups are, one directory each. */
  readonly cgroups: string
  readonly everyMs: number
  /** Containers run `sleep N`, with N from `first` on; everything else on this machine is somebody else's. */
  readonly first: number
  readonly count: number
  /** Folders that hold a folder for each run of a host, by the host's name. */
  readonly runFolders: Readonly<Record<string, string>>
}

/** What changed since the look before. `container` counts from 0. */
export interface Look {
  readonly at_ms: number
  readonly began: readonly { readonly run: RunId; readonly container: number; readonly host: string }[]
  /** No process is left. */
  readonly ended: readonly RunId[]
  /** The cgroup is gone as well. */
  readonly gone: readonly RunId[]
}

const options = workerData as SamplerOptions
const live = new Map<RunId, number>()
const empty = new Set<RunId>()

function processesOf(run: RunId): string[] | null {
  try {
    return readFileSync(join(options.cgroups, run, "cgroup.procs"), "latin1")
      .split("\n")
      .filter(Boolean)
  } catch {
    return null
  }
}

function containerOf(pids: readonly string[]): number | undefined {
  for (const pid of pids) {
    try {
      const number = /^sleep\0(\d+)\0$/.exec(readFileSync(`/proc/${pid}/cmdline`, "latin1"))?.[1]
      const container = Number(number) - options.first
      if (number !== undefined && container >= 0 && container < options.count) return container
    } catch {
      // it ended while we looked
    }
  }
  return undefined
}

const hostOf = (run: RunId) =>
  Object.entries(options.runFolders).find(([, folder]) => existsSync(join(folder, run)))?.[0] ?? "nowhere"

function look(): Look {
  const began: Look["began"][number][] = []
  const ended: RunId[] = []
  const gone: RunId[] = []
  const end = (run: RunId, pids: readonly string[] | null) => {
    if (live.delete(run)) ended.push(run)
    if (pids === null) {
      empty.delete(run)
      gone.push(run)
    } else empty.add(run)
  }
  for (const run of [...live.keys(), ...empty]) {
    const pids = processesOf(run)
    if (pids === null || (pids.length === 0 && live.has(run))) end(run, pids)
  }
  for (const name of readdirSync(options.cgroups)) {
    const run = RunId.safeParse(name).data
    if (run === undefined || live.has(run)) continue
    const container = containerOf(processesOf(run) ?? [])
    if (container === undefined) continue
    // One that ended since it was looked at has not lived beside this one.
    for (const [other, its] of live) {
      const pids = its === container ? processesOf(other) : undefined
      if (pids === null || pids?.length === 0) end(other, pids)
    }
    empty.delete(run)
    live.set(run, container)
    began.push({ run, container, host: hostOf(run) })
  }
  return { at_ms: Date.now(), began, ended, gone }
}

setInterval(() => {
  if (!existsSync(options.cgroups)) return
  const news = look()
  // oxlint-disable-next-line require-post-message-target-origin -- a thread's port, not a window
  if (news.began.length + news.ended.length + news.gone.length > 0) parentPort?.postMessage(news)
}, options.everyMs)
