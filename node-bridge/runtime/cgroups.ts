/**
 * What is done to a run's cgroup from outside: read its limits and its out-of-memory count, freeze, kill, remove. By writing
 * its files: no process is started for any of it. v1 and v2 differ in names alone.
 */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync, writeSync } from "node:fs"
import { dirname, join } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import type { RunId } from "../../schema/ids.ts"
import { cgroupPathOf } from "../oci/spec.ts"
import type { DiskIo } from "../../schema/container.ts"
import { diskIoWrites, readDiskIo } from "./cgroup-io.ts"
import type { CgroupLayout } from "./cgroup-layout.ts"

/**
 * conmon does nothing but copy output; a container that floods its log burns this much of one processor and no more. In
 * periods this short some 800 KB is the most that is written before the log's pace is looked at; to tell of an end takes less.
 */
const MONITOR_CPU_MICROSECONDS = 2_000
const MONITOR_PERIOD_MICROSECONDS = 20_000
const MONITOR_PARENT = "/berth-monitors"

/** Freezing waits for every task to stop; one in an uninterruptible call takes a moment. */
const FREEZE_TIMEOUT_MS = 2_000
const KILL_TIMEOUT_MS = 5_000
const POLL_MS = 5

export interface CgroupLimits {
  readonly cpus: number | null
  readonly memoryBytes: number | null
  /** Memory and swap together, as v1 counts; null when there is no bound or it cannot be read. */
  readonly memorySwapBytes: number | null
  readonly pids: number | null
  /** Those that it may use, as in `0-3,8`; null where the host cannot hold a run to some. */
  readonly processors: string | null
}

export class Cgroups {
  readonly layout: CgroupLayout

  constructor(layout: CgroupLayout) {
    this.layout = layout
  }

  #dir(controller: string, runId: RunId): string | null {
    const mount = this.layout.mounts.get(this.layout.version === 2 ? "unified" : controller)
    return mount === undefined ? null : join(mount, cgroupPathOf(runId))
  }

  #read(controller: string, runId: RunId, file: string): string | null {
    const dir = this.#dir(controller, runId)
    try {
      return dir === null ? null : readFileSync(join(dir, file), "utf8").trim()
    } catch {
      return null
    }
  }

  /** How many processes of the run the kernel killed for memory; null when the cgroup is gone. */
  oomKills(runId: RunId): number | null {
    const text =
      this.layout.version === 2 ? this.#read("memory", runId, "memory.events") : this.#read("memory", runId, "memory.oom_control")
    const count = text === null ? undefined : /^oom_kill (\d+)$/m.exec(text)?.[1]
    return count === undefined ? null : Number(count)
  }

  limits(runId: RunId): CgroupLimits {
    if (this.layout.version === 2) {
      const [quota, period] = (this.#read("cpu", runId, "cpu.max") ?? "max").split(" ")
      const memory = bounded(this.#read("memory", runId, "memory.max"))
      const swap = bounded(this.#read("memory", runId, "memory.swap.max"))
      return {
        cpus: quota === "max" || period === undefined ? null : Number(quota) / Number(period),
        memoryBytes: memory,
        memorySwapBytes: memory === null || swap === null ? null : memory + swap,
        pids: bounded(this.#read("pids", runId, "pids.max")),
        processors: this.#read("cpuset", runId, "cpuset.cpus.effective"),
      }
    }
    const quota = Number(this.#read("cpu", runId, "cpu.cfs_quota_us") ?? -1)
    const period = Number(this.#read("cpu", runId, "cpu.cfs_period_us") ?? 0)
    return {
      cpus: quota > 0 && period > 0 ? quota / period : null,
      memoryBytes: bounded(this.#read("memory", runId, "memory.limit_in_bytes")),
      memorySwapBytes: bounded(this.#read("memory", runId, "memory.memsw.limit_in_bytes")),
      pids: bounded(this.#read("pids", runId, "pids.max")),
      processors: this.#read("cpuset", runId, "cpuset.effective_cpus"),
    }
  }

  /**
   * Holds the run to these processors, as in `0-3,8`. Done after create, for the runtime and what it starts take turns on
   * one processor when they are held to it: a quarter of a create; and before start. Throws what the kernel says.
   */
  holdTo(runId: RunId, processors: string): void {
    const dir = this.#dir("cpuset", runId)
    if (dir === null) throw new Error("the cpuset controller is not mounted")
    const file = join(dir, "cpuset.cpus")
    if (this.layout.version === 2 && !existsSync(file)) enableFor(dirname(dir), "cpuset")
    put(file, processors)
  }

  /** Limits what the run reads and writes of these disks, by `MAJOR:MINOR`. Throws what the kernel says. */
  limitIo(runId: RunId, io: DiskIo, disks: readonly string[]): void {
    const dir = this.#dir("blkio", runId)
    for (const [file, text] of diskIoWrites(this.layout.version, io, disks)) {
      if (dir === null) throw new Error("the block controller is not mounted")
      put(join(dir, file), text)
    }
  }

  io(runId: RunId): DiskIo {
    return readDiskIo(this.layout.version, (file) => this.#read("blkio", runId, file))
  }

  /** The v1 device controller's rules as the kernel prints them; null on v2, where a program decides that cannot be read. */
  deviceRules(runId: RunId): string | null {
    return this.layout.version === 2 ? null : this.#read("devices", runId, "devices.list")
  }

  /** The pids in the run's cgroup, children of it included. Empty when there is none. */
  processes(runId: RunId): number[] {
    const dir = this.#dir("pids", runId)
    return dir === null ? [] : [dir, ...childrenOf(dir)].flatMap(pidsIn)
  }

  isFrozen(runId: RunId): boolean {
    if (this.layout.version === 2) return /^frozen 1$/m.test(this.#read("freezer", runId, "cgroup.events") ?? "")
    return this.#read("freezer", runId, "freezer.state") === "FROZEN"
  }

  /** Stops or continues every process of the run; returns once it is so. Throws when the kernel does not get there. */
  async freeze(runId: RunId, frozen: boolean): Promise<void> {
    const dir = this.#dir("freezer", runId)
    if (dir === null) throw new Error("the freezer controller is not mounted")
    const deadline = performance.now() + FREEZE_TIMEOUT_MS
    for (;;) {
      // v1 may stay FREEZING when a task forks meanwhile; writing again gives it another push.
      if (this.layout.version === 2) put(join(dir, "cgroup.freeze"), frozen ? "1" : "0")
      else put(join(dir, "freezer.state"), frozen ? "FROZEN" : "THAWED")
      if (this.isFrozen(runId) === frozen) return
      if (performance.now() > deadline) throw new Error(`the run's processes did not ${frozen ? "stop" : "continue"} in time`)
      await delay(POLL_MS)
    }
  }

  /** Kills whatever is in the run's cgroup and waits until it is empty. Says whether it is. */
  async kill(runId: RunId): Promise<boolean> {
    if (this.isFrozen(runId)) await this.freeze(runId, false).catch(() => {}) // a frozen v1 task cannot die
    const deadline = performance.now() + KILL_TIMEOUT_MS
    for (;;) {
      const pids = this.processes(runId)
      if (pids.length === 0) return true
      if (performance.now() > deadline) return false
      for (const pid of pids) {
        try {
          process.kill(pid, "SIGKILL")
        } catch {
          // It ended between the two lines.
        }
      }
      await delay(POLL_MS)
    }
  }

  /** Removes the run's directories in every hierarchy, those that a failed create left behind included. */
  remove(runId: RunId): void {
    for (const mount of this.layout.all) {
      removeTree(join(mount, cgroupPathOf(runId)))
      removeTree(join(mount, MONITOR_PARENT, runId))
    }
  }

  #monitorDir(runId: RunId): string | null {
    const mount = this.layout.mounts.get(this.layout.version === 2 ? "unified" : "cpu")
    return mount === undefined ? null : join(mount, MONITOR_PARENT, runId)
  }

  /**
   * A cgroup with a small share of processor time for the run's monitor. For each limit the kernel goes through all cgroups
   * of the host, which takes half a millisecond with a thousand containers.
   */
  // oxlint-disable-next-line require-await -- done at once; a fault is for whoever awaits it
  async makeForMonitor(runId: RunId): Promise<void> {
    const dir = this.#monitorDir(runId)
    if (dir === null) return
    mkdirSync(dir, { recursive: true })
    if (this.layout.version === 2) {
      enableFor(dirname(dir), "cpu")
      put(join(dir, "cpu.max"), `${MONITOR_CPU_MICROSECONDS} ${MONITOR_PERIOD_MICROSECONDS}`)
    } else {
      put(join(dir, "cpu.cfs_period_us"), String(MONITOR_PERIOD_MICROSECONDS))
      put(join(dir, "cpu.cfs_quota_us"), String(MONITOR_CPU_MICROSECONDS))
    }
  }

  /**
   * Puts the run's monitor there. Done after create, so that the runtime that it starts is not slowed down, and before start,
   * so that no output comes earlier.
   */
  capMonitor(runId: RunId, pid: number): void {
    const dir = this.#monitorDir(runId)
    if (dir !== null) put(join(dir, "cgroup.procs"), String(pid))
  }
}

/** v2: lets the children of `parent`, which is below the root, have the controller's files. */
function enableFor(parent: string, controller: string): void {
  for (const dir of [dirname(parent), parent]) put(join(dir, "cgroup.subtree_control"), `+${controller}`)
}

/** One write(2), as cgroup files want; they are never created or truncated. */
function put(file: string, text: string): void {
  const fd = openSync(file, "r+")
  try {
    writeSync(fd, text)
  } finally {
    closeSync(fd)
  }
}

/** v1 writes "no limit" as a number near 2^63. */
function bounded(text: string | null): number | null {
  if (text === null || text === "max" || text === "") return null
  const value = Number(text)
  return value < Number.MAX_SAFE_INTEGER ? value : null
}

function pidsIn(dir: string): number[] {
  try {
    return readFileSync(join(dir, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** All directories below one, deepest first. */
function childrenOf(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .flatMap((entry) => [...childrenOf(join(dir, entry.name)), join(dir, entry.name)])
  } catch {
    return []
  }
}

function removeTree(dir: string): void {
  for (const path of [...childrenOf(dir), dir]) {
    try {
      rmdirSync(path)
    } catch {
      // Not there, or a process is still in it: the next release tries again.
    }
  }
}
