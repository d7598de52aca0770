/** What a run must not leave behind on the machine: compare a snapshot from before with one from after. */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"

export interface Snapshot {
  readonly mounts: readonly string[]
  readonly cgroups: readonly string[]
  readonly links: readonly string[]
  readonly nftTables: readonly string[]
  readonly processes: readonly string[]
}

const PROGRAMS = /^(conmon|crun|runc|workerd|skopeo|umoci)$/

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "")

function berthCgroups(): string[] {
  const root = "/sys/fs/cgroup"
  if (!existsSync(root)) return []
  const hierarchies = existsSync(`${root}/cgroup.controllers`) ? [root] : readdirSync(root).map((name) => `${root}/${name}`)
  return hierarchies.flatMap((hierarchy) => {
    const top = `${hierarchy}/berth`
    if (!existsSync(top)) return []
    return readdirSync(top, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => `${entry.parentPath}/${entry.name}`)
  })
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

/** `marks`: texts, such as a state folder, that tell our processes from others' on this machine. */
export function snapshot(marks: readonly string[]): Snapshot {
  return {
    mounts: lines(readFileSync("/proc/self/mountinfo", "utf8")).map((line) => line.split(" ").slice(3, 5).join(" ")),
    cgroups: berthCgroups(),
    links: readdirSync("/sys/class/net"),
    nftTables: lines(execFileSync("nft", ["list", "tables"], { encoding: "utf8" })),
    processes: processesOf(marks),
  }
}

/** Everything that is there now and was not before. */
export function leftovers(before: Snapshot, after: Snapshot): string[] {
  return (Object.keys(before) as (keyof Snapshot)[]).flatMap((kind) => {
    const known = new Set(before[kind])
    return after[kind].filter((item) => !known.has(item)).map((item) => `${kind}: ${item}`)
  })
}
