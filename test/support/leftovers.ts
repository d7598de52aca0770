/** What a run must not leave behind on the machine: compare a snapshot from before with one from after. */
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { basename, join } from "node:path"
import { linkPrefix } from "../../node-bridge/network/addresses.ts"
import { tableName } from "../../node-bridge/network/rules.ts"
import { hostPaths, memoryFolder } from "../../node-bridge/runtime/paths.ts"
import { formatId, ID_RANDOM_BYTES } from "../../schema/ids.ts"
import { waitFor } from "./wait-for.ts"

const KINDS = ["mounts", "cgroups", "links", "nftTables", "processes", "runtimeDirs", "loops"] as const
type Kind = (typeof KINDS)[number]

export interface Snapshot {
  readonly atMs: number
  readonly mounts: readonly string[]
  readonly cgroups: readonly string[]
  readonly links: readonly string[]
  readonly nftTables: readonly string[]
  readonly processes: readonly string[]
  readonly runtimeDirs: readonly string[]
  readonly loops: readonly string[]
}

/** gVisor's processes run from a descriptor of their own program: the kernel calls them `exe`. */
const PROGRAMS = /^(conmon|crun|runc|runsc|exe|workerd|skopeo|umoci)$/

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "")

function berthCgroups(): string[] {
  const root = "/sys/fs/cgroup"
  if (!existsSync(root)) return []
  const hierarchies = existsSync(`${root}/cgroup.controllers`) ? [root] : readdirSync(root).map((name) => `${root}/${name}`)
  return hierarchies.flatMap((hierarchy) => below(`${hierarchy}/berth`))
}

/** Directories below one; containers end while we look. */
function below(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .flatMap((entry) => [join(dir, entry.name), ...below(join(dir, entry.name))])
  } catch {
    return []
  }
}

/** Live processes (a zombie is dead) that Berth starts, whose command line names one of `marks`. */
function processesOf(marks: readonly string[]): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const comm = readFileSync(`/proc/${pid}/comm`, "utf8").trim()
        const state = /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1]
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")
        return state !== "Z" && PROGRAMS.test(comm) && marks.some((mark) => command.includes(mark)) ? [`${pid} ${command}`] : []
      } catch {
        return [] // it ended while we looked
      }
    })
}

/** Files that loop devices are made of, of which the name has `mark` in it. */
export function loopsOf(mark: string): string[] {
  return readdirSync("/sys/block")
    .filter((name) => name.startsWith("loop"))
    .flatMap((name) => {
      try {
        const file = readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").trim()
        return file.includes(mark) ? [`${name} ${file}`] : []
      } catch {
        return [] // made of nothing
      }
    })
}

/** `marks`: texts, such as a state folder, that tell our processes from others' on this machine. */
export function snapshot(marks: readonly string[]): Snapshot {
  return {
    atMs: Date.now(),
    mounts: lines(readFileSync("/proc/self/mountinfo", "utf8")).map((line) => line.split(" ").slice(3, 5).join(" ")),
    cgroups: berthCgroups(),
    links: readdirSync("/sys/class/net"),
    nftTables: lines(execFileSync("nft", ["list", "tables"], { encoding: "utf8" })),
    processes: processesOf(marks),
    runtimeDirs: readdirSync(memoryFolder()).filter((name) => name.startsWith("berth-")),
    loops: marks.flatMap(loopsOf),
  }
}

/** Everything that is there now and was not before. */
export function leftovers(before: Snapshot, after: Snapshot): string[] {
  return KINDS.flatMap((kind) => {
    const known = new Set(before[kind])
    return after[kind].filter((item) => !known.has(item)).map((item) => `${kind}: ${item}`)
  })
}

/** What a platform's state folder alone may have left, so that whatever else runs on the machine does not count. */
export function leftoversOf(state: string, before: Snapshot): string[] {
  const node = join(state, "node")
  const { runtimeDir } = hostPaths(node)
  const instance = createHash("sha256").update(node).digest("hex")
  const firstRun = formatId("run", before.atMs, new Uint8Array(ID_RANDOM_BYTES))
  const ours: Record<Kind, (item: string) => boolean> = {
    mounts: (mount) => mount.includes(state) || mount.includes(runtimeDir),
    // A cgroup does not say whose it is. A run that is older, or lives, is somebody else's: ours are found as processes.
    cgroups: (path) => basename(path) >= firstRun && !holdsProcesses(path),
    links: (name) => name.startsWith(linkPrefix(instance)),
    nftTables: (table) => table.endsWith(` ${tableName(instance)}`),
    processes: () => true,
    runtimeDirs: (name) => runtimeDir.endsWith(`/${name}`),
    loops: () => true,
  }
  const after = snapshot([state])
  return KINDS.flatMap((kind) => {
    const known = new Set(before[kind])
    return after[kind].filter((item) => !known.has(item) && ours[kind](item)).map((item) => `${kind}: ${item}`)
  })
}

function holdsProcesses(cgroup: string): boolean {
  try {
    if (readFileSync(join(cgroup, "cgroup.procs"), "utf8") !== "") return true
    return readdirSync(cgroup, { withFileTypes: true }).some(
      (entry) => entry.isDirectory() && holdsProcesses(join(cgroup, entry.name)),
    )
  } catch {
    return true // it went while we looked
  }
}

/** Fails with what a platform's state folder has left on the machine; the kernel takes some things down a moment later. */
export async function expectNothingLeft(state: string, before: Snapshot): Promise<void> {
  let left: string[] = []
  const gone = () => (left = leftoversOf(state, before)).length === 0
  await waitFor("everything to be gone", gone, 5_000).catch(() => {
    throw new Error(`left behind:\n${left.join("\n")}`)
  })
}
