/**
 * What containers cost in memory, with everything that is there for them alone. The free memory of a machine swings by hundreds
 * of megabytes on its own, so the parts are summed: what processes share is divided among them (PSS), the kernel's own is read
 * from its totals with its caches dropped first.
 */
import { readdir, readFile, writeFile } from "node:fs/promises"
import { setTimeout as sleep } from "node:timers/promises"

const KERNEL_PARTS = ["Slab", "PageTables", "KernelStack", "Percpu", "SecPageTables"]
/** Freed objects go back to the kernel's pools a grace period later. */
const SETTLE_MS = 1500

/** Kibibytes of all kernel memory that containers have a part in. */
export async function kernelKib(): Promise<number> {
  await writeFile("/proc/sys/vm/drop_caches", "2").catch(() => {}) // without it the caches of names are counted as well
  await sleep(SETTLE_MS)
  const text = await readFile("/proc/meminfo", "utf8")
  return KERNEL_PARTS.reduce((sum, part) => sum + fieldOf(text, part), 0)
}

export interface Processes {
  readonly pids: readonly number[]
  readonly pssKib: number
}

/** Those processes that `isRoot` tells by their command line and their parent, and all below them. */
export async function processesUnder(isRoot: (commandLine: string, parent: number) => boolean): Promise<Processes> {
  const names = (await readdir("/proc")).filter((name) => /^\d+$/.test(name))
  const all = await Promise.all(names.map(readProcess))
  const known = all.filter((each) => each !== null)
  const taken = new Set(known.filter(({ commandLine, parent }) => isRoot(commandLine, parent)).map(({ pid }) => pid))
  for (let before = -1; before !== taken.size;) {
    before = taken.size
    for (const { pid, parent } of known) if (taken.has(parent)) taken.add(pid)
  }
  const pids = [...taken]
  const sizes = await Promise.all(pids.map(pssOf))
  return { pids, pssKib: sizes.reduce((sum, kib) => sum + kib, 0) }
}

/** Null for a process that has ended meanwhile. */
async function readProcess(name: string): Promise<{ pid: number; parent: number; commandLine: string } | null> {
  try {
    const [status, commandLine] = await Promise.all([
      readFile(`/proc/${name}/status`, "utf8"),
      readFile(`/proc/${name}/cmdline`, "utf8"),
    ])
    return { pid: Number(name), parent: fieldOf(status, "PPid"), commandLine: commandLine.replaceAll("\0", " ") }
  } catch {
    return null
  }
}

const pssOf = async (pid: number): Promise<number> =>
  fieldOf(await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => ""), "Pss")

const fieldOf = (text: string, name: string): number => Number(text.match(new RegExp(`^${name}:\\s+(\\d+)`, "m"))?.[1] ?? 0)
