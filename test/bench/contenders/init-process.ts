/** A container's first process, by its id on this machine: the number that its own daemon knows may be of another namespace. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { parseCgroupLayout } from "../../../node-bridge/runtime/cgroup-layout.ts"

export function initIn(cgroup: string): number {
  const { mounts, version } = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  const mount = mounts.get(version === 2 ? "unified" : "pids") ?? ""
  const pids = readFileSync(join(mount, cgroup, "cgroup.procs"), "latin1")
    .split("\n")
    .flatMap((line) => Number(line) || [])
  const init = pids.find((pid) => /^NSpid:.*\t1$/m.test(statusOf(pid)))
  if (init === undefined) throw new Error(`no first process of a container is in ${cgroup}`)
  return init
}

/** Empty when the process is gone. */
export function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "latin1")
  } catch {
    return ""
  }
}
