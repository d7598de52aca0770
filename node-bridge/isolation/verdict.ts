/**
 * Holds what was read from the kernel against what the profile promises. Pure. Every difference is a sentence; none at all
 * is the only good answer. Stricter than promised is not a difference, save for limits, which a tenant paid for.
 */
import {
  BASE_MOUNTS,
  CAPABILITIES,
  ETC_FILES,
  MASKED_PATHS,
  NAMESPACES,
  READ_ONLY_PATHS,
  WRITABLE_MOUNTS,
} from "../oci/hardened.ts"
import type { Isolation } from "../../schema/isolation.ts"

export interface Expected {
  readonly idRange: { readonly hostBase: number; readonly size: number }
  readonly limits: { readonly cpus: number; readonly memory_bytes: number; readonly pids: number }
  readonly egress: "open" | "none"
  readonly readOnly: boolean
  /** Of the compiled filter, where we compiled it. */
  readonly filterSha256: string | null
  /** Which of the masked and read-only paths this kernel has at all. */
  readonly existingPaths: ReadonlySet<string>
  /** Whether the process is in the run's own cgroup in every hierarchy that limits something. */
  readonly inOwnCgroup: boolean
}

export type Reading = Omit<Isolation, "deviations" | "verdict">

export function deviationsOf(read: Reading, expected: Expected): string[] {
  return [
    ...namespaceDeviations(read),
    ...userDeviations(read, expected),
    ...privilegeDeviations(read, expected),
    ...pathDeviations(read, expected),
    ...mountDeviations(read, expected),
    ...limitDeviations(read, expected),
    ...networkDeviations(read, expected),
  ]
}

function namespaceDeviations(read: Reading): string[] {
  return NAMESPACES.filter((name) => read.namespaces[name]?.private !== true).map((name) => `the ${name} namespace is the host's`)
}

function userDeviations(read: Reading, { idRange }: Expected): string[] {
  const right = (map: Reading["user"]["uid_map"]) =>
    map.length === 1 && map[0]?.inside === 0 && map[0].outside === idRange.hostBase && map[0].count === idRange.size
  return [
    ...(right(read.user.uid_map) ? [] : ["user ids are not mapped to the tenant's range alone"]),
    ...(right(read.user.gid_map) ? [] : ["group ids are not mapped to the tenant's range alone"]),
    ...(read.user.root_is_host_root ? ["the container's root is the host's root"] : []),
  ]
}

function privilegeDeviations(read: Reading, { filterSha256 }: Expected): string[] {
  const allowed: ReadonlySet<string> = new Set(CAPABILITIES)
  const found: string[] = []
  for (const set of ["bounding", "effective", "permitted"] as const) {
    for (const name of read.capabilities[set]) if (!allowed.has(name)) found.push(`${name} is in the ${set} set`)
  }
  for (const set of ["inheritable", "ambient"] as const) {
    for (const name of read.capabilities[set]) found.push(`${name} is in the ${set} set`)
  }
  if (!read.no_new_privileges) found.push("new privileges can be gained")
  if (read.seccomp.mode !== "filter" || read.seccomp.filters < 1) found.push("no system call filter is in force")
  else if (filterSha256 !== null && read.seccomp.sha256 !== null && read.seccomp.sha256 !== filterSha256) {
    found.push("the system call filter is not the profile's")
  }
  return found
}

function pathDeviations(read: Reading, { existingPaths }: Expected): string[] {
  const masked = new Set(read.masked_paths)
  const readOnly = new Set(read.read_only_paths)
  return [
    ...MASKED_PATHS.filter((path) => existingPaths.has(path) && !masked.has(path)).map((path) => `${path} is not masked`),
    ...READ_ONLY_PATHS.filter((path) => existingPaths.has(path) && !readOnly.has(path)).map((path) => `${path} is not read-only`),
  ]
}

/** Standard devices that runtimes bind one by one; `console` with a terminal. */
const DEVICES = ["null", "zero", "full", "tty", "random", "urandom", "console"].map((name) => `/dev/${name}`)

function mountDeviations(read: Reading, { readOnly }: Expected): string[] {
  const known = new Set<string>([
    "/", "/sys", "/sys/fs/cgroup", ...BASE_MOUNTS.map((mount) => mount.destination), ...ETC_FILES.map((name) => `/etc/${name}`),
    ...DEVICES, ...read.masked_paths, ...read.read_only_paths, ...(readOnly ? WRITABLE_MOUNTS.map((mount) => mount.destination) : []),
  ]) // prettier-ignore
  const needed: Record<string, readonly string[]> = {
    "/": readOnly ? ["nosuid", "nodev", "ro"] : ["nosuid", "nodev"],
    "/proc": ["nosuid", "nodev", "noexec"],
    "/sys": ["ro", "nosuid", "nodev", "noexec"],
    "/dev": ["nosuid"],
    ...Object.fromEntries(ETC_FILES.map((name) => [`/etc/${name}`, ["ro", "nosuid", "nodev"]])),
  }
  const found: string[] = []
  for (const { target } of read.mounts) {
    if (!known.has(target) && !target.startsWith("/sys/fs/cgroup/")) found.push(`${target} is mounted and should not be`)
  }
  for (const [target, options] of Object.entries(needed)) {
    const mount = read.mounts.findLast((each) => each.target === target)
    if (mount === undefined) found.push(`${target} is not a mount of its own`)
    else for (const option of options) if (!mount.options.includes(option)) found.push(`${target} is not mounted ${option}`)
  }
  for (const { target, options, type } of read.mounts) {
    if (type.startsWith("cgroup") && !options.includes("ro")) found.push(`${target} is writable`)
  }
  return found
}

/** A quota is kept in whole microseconds of a period of 100 ms. */
const CPU_TOLERANCE = 0.0001
/** Memory limits are kept in whole pages. */
const PAGE_BYTES = 4096

function limitDeviations(read: Reading, { limits, inOwnCgroup }: Expected): string[] {
  const { cpus, memory_bytes, memory_swap_bytes, pids } = read.limits
  const asked = Math.max(0.01, limits.cpus)
  const found: string[] = []
  if (!inOwnCgroup) found.push("the process is not in its own cgroup")
  if (cpus === null || Math.abs(cpus - asked) > CPU_TOLERANCE) found.push(`the processor limit is ${cpus ?? "off"}, not ${asked}`)
  if (memory_bytes === null || Math.abs(memory_bytes - limits.memory_bytes) >= PAGE_BYTES) {
    found.push(`the memory limit is ${memory_bytes ?? "off"}, not ${limits.memory_bytes}`)
  } else if (memory_swap_bytes !== null && memory_swap_bytes > memory_bytes) found.push("swap may be used")
  if (pids !== limits.pids) found.push(`the process limit is ${pids ?? "off"}, not ${limits.pids}`)
  return found
}

function networkDeviations(read: Reading, { egress }: Expected): string[] {
  const allowed = egress === "none" ? ["lo"] : ["lo", "eth0"]
  return read.network.interfaces.filter((name) => !allowed.includes(name)).map((name) => `the interface ${name} is seen`)
}
