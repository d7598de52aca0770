/**
 * What the kernel enforces on a live run, read from outside: from `/proc` of its first process, from its cgroup, and from
 * the filter that the kernel holds. Nothing here comes from what was asked; that is only compared with at the end.
 */
import { createHash } from "node:crypto"
import { existsSync, readFileSync, readlinkSync, statSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import type { Isolation } from "../../schema/isolation.ts"
import { IDS_PER_TENANT } from "../mount/id-ranges.ts"
import { MASKED_PATHS, NAMESPACES, READ_ONLY_PATHS } from "../oci/hardened.ts"
import { cgroupPathOf } from "../oci/spec.ts"
import type { Cgroups } from "../runtime/cgroups.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { HostRecord } from "../runtime/host-record.ts"
import { isAlive } from "../runtime/process-identity.ts"
import type { ProcessIdentity } from "../runtime/process-identity.ts"
import { parseCgroupPaths, parseIdMap, parseInterfaces, parseMountinfo, parseStatus } from "./proc-text.ts"
import type { MountLine } from "./proc-text.ts"
import { readFilterSha256 } from "./seccomp-filter.ts"
import { deviationsOf } from "./verdict.ts"
import type { Reading } from "./verdict.ts"

export interface ReadOutInput {
  readonly record: HostRecord
  readonly init: ProcessIdentity
  readonly paused: boolean
  readonly cgroups: Cgroups
  readonly versions: Readonly<Record<string, string>>
  /** The filter that was compiled for this runtime; null when it compiles its own. */
  readonly expectedFilter: Buffer | null
}

/** Names of /proc/PID/ns where they differ from those of the runtime specification. */
const NS_FILE: Readonly<Record<string, string>> = { mount: "mnt", network: "net" }
/** The hierarchies that limit something; v2 has one for all, named by the empty string. */
const LIMITING = ["cpu", "memory", "pids", "devices", ""]

/** The runtime's process becomes the container's by exec, a moment after `running` is said; its filter is loaded just before. */
const EXEC_WAIT_MS = 1_000
const EXEC_LOOK_MS = 2
/** A runtime runs from a sealed copy of itself, which the container's root does not reach: the kernel names it "/" then. */
const RUNTIME_PROGRAM = /^\/$|^\/memfd:|\/(crun|runc)$/

/** Throws `ControllerError` when the process ended meanwhile: half a reading is none. */
export async function readIsolation(input: ReadOutInput): Promise<Isolation> {
  const { record, init, cgroups } = input
  try {
    await untilExec(init.pid)
    const reading = await read(input)
    const paths = parseCgroupPaths(readFileSync(`/proc/${init.pid}/cgroup`, "latin1"))
    const own = cgroupPathOf(record.run_id)
    const deviations = deviationsOf(reading, {
      idRange: { hostBase: record.host_base, size: IDS_PER_TENANT },
      limits: record.limits,
      egress: record.network.egress,
      readOnly: record.read_only,
      filterSha256: input.expectedFilter === null ? null : createHash("sha256").update(input.expectedFilter).digest("hex"),
      existingPaths: new Set([...MASKED_PATHS, ...READ_ONLY_PATHS].filter((path) => existsSync(path))),
      // On a hybrid machine the v2 hierarchy limits nothing.
      inOwnCgroup: LIMITING.every((name) => (name === "" && cgroups.layout.version === 1 ? true : isOwn(paths.get(name), own))),
    })
    if (isAlive(init)) return { ...reading, deviations, verdict: deviations.length === 0 ? "holds" : "deviates" }
  } catch (error) {
    if (isAlive(init)) throw error
  }
  throw new ControllerError("not_running", "The container ended while it was being looked at.")
}

/** Bounded: what is still the runtime after that is read as it is. */
async function untilExec(pid: number): Promise<void> {
  const until = performance.now() + EXEC_WAIT_MS
  while (RUNTIME_PROGRAM.test(readlinkSync(`/proc/${pid}/exe`)) && performance.now() < until) await delay(EXEC_LOOK_MS)
}

/** A hierarchy that the machine does not have limits nothing that could be escaped. */
const isOwn = (path: string | undefined, own: string) => path === undefined || path === own

async function read({ record, init, paused, cgroups, versions }: ReadOutInput): Promise<Reading> {
  const file = (name: string) => readFileSync(`/proc/${init.pid}/${name}`, "utf8")
  const status = parseStatus(file("status"))
  const uidMap = parseIdMap(file("uid_map"))
  const mounts = parseMountinfo(file("mountinfo"))
  const limits = cgroups.limits(record.run_id)
  const interfaces = parseInterfaces(file("net/dev"))
  const line = uidMap.find(({ outside, count }) => status.effectiveUid >= outside && status.effectiveUid < outside + count)
  return {
    run_id: record.run_id,
    read_at: new Date().toISOString(),
    profile: record.profile,
    runtime: { name: record.runtime, version: versions[record.runtime] ?? "" },
    versions: { ...versions },
    namespaces: Object.fromEntries(NAMESPACES.map((name) => [name, namespaceOf(init.pid, NS_FILE[name] ?? name)])),
    user: {
      uid_map: uidMap,
      gid_map: parseIdMap(file("gid_map")),
      runs_as_uid_inside: line === undefined ? status.effectiveUid : status.effectiveUid - line.outside + line.inside,
      root_is_host_root: uidMap.some(({ inside, outside }) => inside === 0 && outside === 0),
    },
    capabilities: status.capabilities,
    no_new_privileges: status.noNewPrivileges,
    seccomp: {
      mode: status.seccomp,
      filters: status.seccompFilters,
      sha256: status.seccomp === "filter" && !paused ? await readFilterSha256(init.pid) : null,
    },
    mounts: mounts.map(({ target, type, options }) => ({ target, type, options })),
    masked_paths: mounts.filter(isMask).map(({ target }) => target),
    read_only_paths: mounts
      .filter(({ type, root, options }) => type === "proc" && root !== "/" && options.includes("ro"))
      .map(({ target }) => target),
    limits: {
      cpus: limits.cpus,
      memory_bytes: limits.memoryBytes,
      memory_swap_bytes: limits.memorySwapBytes,
      pids: limits.pids,
      disk_bytes: null,
      open_files: Number(/^Max open files\s+(\d+)/m.exec(file("limits"))?.[1] ?? Number.NaN) || null,
      io: {},
      cgroup_version: cgroups.layout.version === 2 ? "2" : "1",
    },
    devices: [],
    network: {
      mode: interfaces.some((name) => name !== "lo") ? "nat" : "loopback",
      interfaces,
      egress: record.network.egress,
      egress_bytes_per_second: null,
      ingress_bytes_per_second: null,
      rules: [],
    },
  }
}

function namespaceOf(pid: number, name: string): Reading["namespaces"][string] {
  const inode = statSync(`/proc/${pid}/ns/${name}`).ino
  return { inode, shared_with: inode === statSync(`/proc/self/ns/${name}`).ino ? "host" : "nobody" }
}

/** Runtimes hide a file under the null device and a directory under an empty read-only tmpfs. */
function isMask({ target, type, root, options }: MountLine): boolean {
  const underKernel = target.startsWith("/proc/") || target.startsWith("/sys/")
  const hidden = root.endsWith("/null") || (type === "tmpfs" && root === "/" && options.includes("ro"))
  return underKernel && hidden && !target.startsWith("/sys/fs/cgroup")
}
