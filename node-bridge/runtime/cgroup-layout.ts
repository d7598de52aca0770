/**
 * How the machine's cgroups are mounted, from mountinfo(5). Pure. Three shapes exist: v2 alone; v1 hierarchies; and both
 * (hybrid), where the v2 one controls nothing that we use.
 */

import { join } from "node:path"

export interface CgroupLayout {
  readonly version: 1 | 2
  /** Mount point by controller (v1: `memory`, `cpu`, `pids`, …), or the one v2 mount under the name `unified`. */
  readonly mounts: ReadonlyMap<string, string>
  /** Every place where a run's cgroup directory may be, the v2 mount of a hybrid machine among them. */
  readonly all: readonly string[]
  /** The v2 mount of a hybrid machine: crun refuses to create while it sees one beside v1. */
  readonly hidden: string | null
}

const V1_CONTROLLERS = new Set(["cpu", "cpuacct", "cpuset", "memory", "pids", "freezer", "devices", "blkio"])

export function parseCgroupLayout(mountinfo: string): CgroupLayout {
  const mounts = new Map<string, string>()
  const all = new Set<string>()
  let unified: string | null = null
  for (const line of mountinfo.split("\n")) {
    const [left = "", right = ""] = line.split(" - ", 2)
    const target = unescapeMount(left.split(" ")[4] ?? "")
    const [type, , superOptions = ""] = right.split(" ")
    if (type === "cgroup2" && unified === null) unified = target
    if (type !== "cgroup" || all.has(target)) continue
    all.add(target)
    for (const option of superOptions.split(",")) {
      if (V1_CONTROLLERS.has(option) && !mounts.has(option)) mounts.set(option, target)
    }
  }
  if (unified !== null) all.add(unified)
  if (mounts.size > 0) return { version: 1, mounts, all: [...all], hidden: unified }
  return { version: 2, mounts: new Map(unified === null ? [] : [["unified", unified]]), all: [...all], hidden: null }
}

/** The `cgroup.procs` of this process's own cgroup, in any one hierarchy, from /proc/self/cgroup; null when it is out of sight. */
export function ownProcs(layout: CgroupLayout, selfCgroup: string): string | null {
  for (const line of selfCgroup.trim().split("\n")) {
    const [, controllers = "", ...path] = line.split(":") // a path may have colons
    const mount = controllers.split(",").map((name) => layout.mounts.get(name === "" ? "unified" : name))[0]
    if (mount !== undefined) return join(mount, path.join(":"), "cgroup.procs")
  }
  return null
}

/** mountinfo writes space, tab, newline and backslash as octal. */
export function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
