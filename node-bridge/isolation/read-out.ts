/**
 * What the kernel enforces on a live run, read from outside: from `/proc` of its first process, from its cgroup, and from
 * the filter that the kernel holds. Nothing here comes from what was asked; that is only compared with at the end.
 *
 * The monitor looks at every run again and again, and leaves out what costs more than reading a file: the filter, for which
 * the process must stand still, the host's side of the network, and the run's other processes.
 */
import { existsSync, readFileSync, readlinkSync } from "node:fs"
import { statfs } from "node:fs/promises"
import { setTimeout as delay } from "node:timers/promises"
import { IDENTITY_DIR } from "../../schema/identity.ts"
import type { Isolation } from "../../schema/isolation.ts"
import { askRoot } from "../disk/space.ts"
import { IDS_PER_TENANT } from "../mount/id-ranges.ts"
import { NAMESPACES } from "../oci/hardened.ts"
import { cgroupPathOf } from "../oci/spec.ts"
import type { Cgroups } from "../runtime/cgroups.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { HostRecord } from "../runtime/host-record.ts"
import type { NetworkDescription } from "../runtime/ports.ts"
import { isAlive } from "../runtime/process-identity.ts"
import type { ProcessIdentity } from "../runtime/process-identity.ts"
import { parseProcessors } from "../runtime/processors.ts"
import { namespacesOf } from "./census.ts"
import type { Inodes, NamespaceCensus } from "./census.ts"
import { companionsOf } from "./companions.ts"
import type { Companions } from "./companions.ts"
import { readDevices } from "./devices.ts"
import { parseCgroupPaths, parseIdMap, parseInterfaces, parseMountinfo, parseOpenFiles, parseStatus } from "./proc-text.ts"
import type { MountLine, StatusFields } from "./proc-text.ts"
import { promiseOf } from "./promise.ts"
import { readFilterSha256 } from "./seccomp-filter.ts"
import { deviationsOf } from "./verdict.ts"
import type { Expected, Reading } from "./verdict.ts"

export interface LookInput {
  readonly record: HostRecord
  readonly init: ProcessIdentity
  readonly cgroups: Cgroups
  readonly versions: Readonly<Record<string, string>>
  readonly census: NamespaceCensus
}

export interface ReadOutInput extends LookInput {
  readonly paused: boolean
  /** The host's side of its network; null when it has none. */
  readonly network: NetworkDescription | null
}

/** The hierarchies that limit something; v2 has one for all, named by the empty string. */
const LIMITING = ["cpu", "memory", "pids", "devices", "blkio", "freezer", "cpuset", ""]

/** The runtime's process becomes the container's by exec, a moment after `running` is said; its filter is loaded just before. */
const EXEC_WAIT_MS = 1_000
const EXEC_LOOK_MS = 2
/** Whose process is a runtime's so long after its start has a program of that name: nobody else's look waits for it. */
const EXEC_LATEST_MS = 10_000
/** A runtime runs from a sealed copy of itself, which the container's root does not reach: the kernel names it "/" then. */
const RUNTIME_PROGRAM = /^\/$|^\/memfd:|\/(crun|runc)$/

/** All of it. Throws `ControllerError` when the process ended meanwhile: half a reading is none. */
export async function readIsolation(input: ReadOutInput): Promise<Isolation> {
  const { init, record, paused, network, cgroups } = input
  try {
    await untilExec(input)
    const companions = companionsOf(cgroups.processes(record.run_id), init.pid, record.profile, idRangeOf(record))
    const seen = await look(input, companions)
    const { seccomp } = seen.reading
    const reading: Reading = {
      ...seen.reading,
      seccomp: { ...seccomp, sha256: seccomp.mode === "filter" && !paused ? await readFilterSha256(init.pid) : null },
      network: { ...seen.reading.network, ...network },
    }
    const deviations = deviationsOf(reading, {
      ...seen.expected,
      filterSha256: record.filter_sha256,
      networkDescribed: network !== null,
      companions: [...companions.deviations, ...seen.unanswered],
    })
    if (isAlive(init)) return { ...reading, deviations, verdict: deviations.length === 0 ? "holds" : "deviates" }
  } catch (error) {
    if (isAlive(init)) throw error
  }
  throw ended()
}

/** The part that is cheap enough for now and then: only what deviates, not what is unknown. Throws `ControllerError` as above. */
export async function findDeviations(input: LookInput): Promise<string[]> {
  try {
    await untilExec(input)
    const { reading, expected } = await look(input, null)
    const deviations = deviationsOf(reading, expected)
    if (isAlive(input.init)) return deviations
  } catch (error) {
    if (isAlive(input.init)) throw error
  }
  throw ended()
}

const ended = () => new ControllerError("not_running", "The container ended while it was being looked at.")

const idRangeOf = (record: HostRecord) => ({ hostBase: record.host_base, size: IDS_PER_TENANT })

/** Bounded: what is still the runtime after that is read as it is. */
async function untilExec({ init, record }: LookInput): Promise<void> {
  if (record.profile === "sandboxed") return // its process stays the runtime's own
  if (record.started_at_ms !== null && Date.now() - record.started_at_ms > EXEC_LATEST_MS) return
  const until = performance.now() + EXEC_WAIT_MS
  while (RUNTIME_PROGRAM.test(readlinkSync(`/proc/${init.pid}/exe`)) && performance.now() < until) await delay(EXEC_LOOK_MS)
}

/** A hierarchy that the machine does not have limits nothing that could be escaped. */
const isOwn = (path: string | undefined, own: string) => path === undefined || path === own

interface Look {
  readonly reading: Reading
  readonly expected: Expected
  /** What could not be read, in sentences. */
  readonly unanswered: readonly string[]
}

/** `companions` null: only the first process is looked at. */
async function look(input: LookInput, companions: Companions | null): Promise<Look> {
  const { record, init, cgroups, census } = input
  const file = (name: string) => readFileSync(`/proc/${init.pid}/${name}`, "utf8")
  const inodes = namespacesOf(init.pid)
  census.saw({ runId: record.run_id, tenantId: record.tenant_id, init }, inodes)
  const shared = sharing(input, inodes)
  const mounts = parseMountinfo(file("mountinfo"))
  const paths = parseCgroupPaths(file("cgroup"))
  const own = cgroupPathOf(record.run_id)
  const promise = promiseOf(record.profile)
  // Of a sandboxed run the file server has the tenant's root.
  const root = record.profile === "sandboxed" ? (companions?.gofer ?? null) : init.pid
  const diskBytes = root === null ? null : await askRoot(root, fileSystemBytes)
  const devices = await askRoot(init.pid, (path) =>
    readDevices(
      path,
      mounts.map(({ target }) => target),
      cgroups.deviceRules(record.run_id),
    ),
  )
  const interfaces = parseInterfaces(file("net/dev"))
  const status = parseStatus(file("status"))
  const reading: Reading = {
    run_id: record.run_id,
    read_at: new Date().toISOString(),
    profile: record.profile,
    runtime: { name: record.runtime, version: input.versions[record.runtime] ?? "" },
    versions: Object.fromEntries(
      ["kernel", record.runtime, "conmon"].map((name) => [name, input.versions[name] ?? ""]), // the programs in between
    ),
    namespaces: Object.fromEntries(NAMESPACES.map((name) => [name, { inode: inodes[name], shared_with: shared[name].with }])),
    ...privileges(status, file),
    mounts: mounts.map(({ target, type, options }) => ({ target, type, options })),
    masked_paths: mounts.filter(isMask).map(({ target }) => target),
    read_only_paths: mounts
      .filter(({ type, root: part, options }) => type === "proc" && part !== "/" && options.includes("ro"))
      .map(({ target }) => target),
    limits: {
      ...cgroupLimits(cgroups, record),
      disk_bytes: diskBytes,
      // The sentry's own limit says nothing of the tenant's processes.
      open_files: promise.openFiles ? parseOpenFiles(file("limits")) : null,
    },
    devices: devices ?? [],
    network: {
      mode: interfaces.some((name) => name !== "lo") ? "nat" : "loopback",
      interfaces,
      // What can be said from inside alone; the host's side says the rest.
      egress: interfaces.some((name) => name !== "lo") ? "open" : "none",
      egress_bytes_per_second: null,
      ingress_bytes_per_second: null,
      rules: [],
    },
  }
  const { limits } = record
  const expected: Expected = {
    promise,
    idRange: idRangeOf(record),
    capabilities: record.capabilities,
    limits: {
      ...limits,
      processors: record.processors === null ? null : parseProcessors(record.processors),
      disk_bytes: diskBytes === null ? null : record.disk_bytes,
    },
    network: record.network,
    networkDescribed: false,
    readOnly: record.read_only,
    filterSha256: null,
    existingPaths: new Set([...promise.maskedPaths, ...promise.readOnlyPaths].filter((path) => existsSync(path))),
    // On a hybrid machine the v2 hierarchy limits nothing.
    inOwnCgroup: LIMITING.every((name) => (name === "" && cgroups.layout.version === 1 ? true : isOwn(paths.get(name), own))),
    sharedWithOthers: NAMESPACES.filter((name) => shared[name].others),
    devices: record.device_nodes,
    mounts: [...record.device_mounts, ...(record.identity ? [IDENTITY_DIR] : [])],
    companions: [],
  }
  const unanswered = [
    ...(root !== null && diskBytes === null ? ["the disk limit is unknown: the disk does not answer"] : []),
    ...(devices === null ? ["the devices are unknown: the disk does not answer"] : []),
  ]
  return { reading, expected, unanswered }
}

type Sharing = Readonly<Record<string, { readonly with: "nobody" | "tenant" | "host"; readonly others: boolean }>>

function sharing({ record, init, census }: LookInput, inodes: Inodes) {
  const run = { runId: record.run_id, tenantId: record.tenant_id, init }
  return Object.fromEntries(
    NAMESPACES.map((name) => {
      if (inodes[name] === census.host[name]) return [name, { with: "host", others: false }]
      const { tenant, others } = census.sharers(run, name, inodes[name])
      return [name, { with: tenant ? "tenant" : "nobody", others }]
    }),
  ) as Sharing & Record<(typeof NAMESPACES)[number], Sharing[string]>
}

function privileges(status: StatusFields, file: (name: string) => string) {
  const uidMap = parseIdMap(file("uid_map"))
  const line = uidMap.find(({ outside, count }) => status.effectiveUid >= outside && status.effectiveUid < outside + count)
  return {
    user: {
      uid_map: uidMap,
      gid_map: parseIdMap(file("gid_map")),
      runs_as_uid_inside: line === undefined ? status.effectiveUid : status.effectiveUid - line.outside + line.inside,
      root_is_host_root: uidMap.some(({ inside, outside }) => inside === 0 && outside === 0),
    },
    capabilities: status.capabilities,
    no_new_privileges: status.noNewPrivileges,
    seccomp: { mode: status.seccomp, filters: status.seccompFilters, sha256: null },
  }
}

function cgroupLimits(cgroups: Cgroups, { run_id }: HostRecord) {
  const limits = cgroups.limits(run_id)
  return {
    cpus: limits.cpus,
    memory_bytes: limits.memoryBytes,
    memory_swap_bytes: limits.memorySwapBytes,
    pids: limits.pids,
    processors: limits.processors === null ? null : parseProcessors(limits.processors),
    io: cgroups.io(run_id),
    cgroup_version: cgroups.layout.version === 2 ? ("2" as const) : ("1" as const),
  }
}

/** The size of the file system that a process's root is on: what `df` says inside. */
async function fileSystemBytes(root: string): Promise<number> {
  const { bsize, blocks } = await statfs(root)
  return bsize * blocks
}

/** Runtimes hide a file under the null device and a directory under an empty read-only tmpfs. */
function isMask({ target, type, root, options }: MountLine): boolean {
  const underKernel = target.startsWith("/proc/") || target.startsWith("/sys/")
  const hidden = root.endsWith("/null") || (type === "tmpfs" && root === "/" && options.includes("ro"))
  return underKernel && hidden && !target.startsWith("/sys/fs/cgroup")
}
