/**
 * The other processes of a run: all that its cgroup holds must be in the user namespace of the first one, for a process that
 * somebody put there from outside has other rights. Under `sandboxed` one more belongs: the gofer, which opens the tenant's
 * files for the sentry with the tenant's own ids.
 */
import { readFileSync } from "node:fs"
import type { Profile } from "../../schema/container.ts"
import { namespaceOf } from "./census.ts"
import { parseIdMap, parseStatus } from "./proc-text.ts"

/** A container may have thousands; the first ones are the runtime's, and what joins from outside is seldom alone. */
const MOST = 256
/** What gVisor calls the process in its own argv. */
const GOFER = "runsc-gofer"

export interface Companions {
  /** The process that has the tenant's files as its root; null when the first one has them. */
  readonly gofer: number | null
  readonly deviations: readonly string[]
}

export function companionsOf(
  pids: readonly number[],
  init: number,
  profile: Profile,
  idRange: { readonly hostBase: number; readonly size: number },
): Companions {
  const user = namespaceOf(init, "user")
  let gofer: number | null = null
  const deviations = new Set<string>()
  for (const pid of pids.slice(0, MOST)) {
    try {
      if (namespaceOf(pid, "user") === user) continue
      if (profile === "sandboxed" && isGofer(pid)) {
        gofer = pid
        for (const found of goferDeviations(pid, idRange)) deviations.add(found)
      } else deviations.add("a process in its cgroup is in another user namespace")
    } catch {
      // It ended while we looked.
    }
  }
  return { gofer, deviations: [...deviations] }
}

/** Throws when the process has ended. */
export const isGofer = (pid: number): boolean => read(pid, "cmdline").split("\0", 1)[0] === GOFER

function goferDeviations(pid: number, { hostBase, size }: { hostBase: number; size: number }): string[] {
  const { noNewPrivileges, seccomp } = parseStatus(read(pid, "status"))
  const [line, ...more] = parseIdMap(read(pid, "uid_map"))
  const mapped = more.length === 0 && line?.inside === 0 && line.outside === hostBase && line.count === size
  return [
    ...(mapped ? [] : ["user ids of its file server are not mapped to the tenant's range alone"]),
    ...(noNewPrivileges ? [] : ["its file server can gain privileges"]),
    ...(seccomp === "filter" ? [] : ["no system call filter is in force on its file server"]),
  ]
}

const read = (pid: number, name: string) => readFileSync(`/proc/${pid}/${name}`, "utf8")
