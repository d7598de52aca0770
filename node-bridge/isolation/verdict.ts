/**
 * Holds what was read from the kernel against what the profile promises and the run asked. Pure. Every difference is a
 * sentence; none at all is the only good answer. Stricter than promised is not a difference, save for limits, which a
 * tenant paid for. `verdict-limits.ts` has the part about those.
 */
import type { Capability, Network, Resources } from "../../schema/container.ts"
import type { Isolation } from "../../schema/isolation.ts"
import type { ProfilePromise } from "./promise.ts"
import { limitDeviations, networkDeviations } from "./verdict-limits.ts"

export interface Expected {
  readonly promise: ProfilePromise
  readonly idRange: { readonly hostBase: number; readonly size: number }
  readonly capabilities: readonly Capability[]
  /** What the run asked; `pids` as its cgroup has it. */
  readonly limits: Pick<Resources, "cpus" | "memory_bytes" | "pids" | "open_files" | "io"> & {
    /** Null: it has no disk of its own, or that was not looked at. */
    readonly disk_bytes: number | null
    /** Null: it may use all. */
    readonly processors: readonly number[] | null
  }
  readonly network: Network
  /** Whether the host's side of the network was looked at, or only what the container has of it. */
  readonly networkDescribed: boolean
  readonly readOnly: boolean
  /** Of the compiled filter, where we compiled it. */
  readonly filterSha256: string | null
  /** Which of the masked and read-only paths this kernel has at all. */
  readonly existingPaths: ReadonlySet<string>
  /** Whether the process is in the run's own cgroup in every hierarchy that limits something. */
  readonly inOwnCgroup: boolean
  /** Namespaces that a run of another tenant is in as well. */
  readonly sharedWithOthers: readonly string[]
  /** Device nodes that were granted: path, type and number as in `c 10:232`. Then the mount points that came with them. */
  readonly devices: Readonly<Record<string, string>>
  readonly mounts: readonly string[]
  /** What was found wrong with the run's other processes, and what could not be read. */
  readonly companions: readonly string[]
}

export type Reading = Omit<Isolation, "deviations" | "verdict">

export function deviationsOf(read: Reading, expected: Expected): string[] {
  return [
    ...namespaceDeviations(read, expected),
    ...userDeviations(read, expected),
    ...privilegeDeviations(read, expected),
    ...pathDeviations(read, expected),
    ...mountDeviations(read, expected),
    ...deviceDeviations(read, expected),
    ...limitDeviations(read, expected),
    ...networkDeviations(read.network, expected),
    ...expected.companions,
  ]
}

function namespaceDeviations(read: Reading, { promise, sharedWithOthers }: Expected): string[] {
  const own = new Set(promise.namespaces)
  return [
    ...promise.namespaces
      .filter((name) => (read.namespaces[name]?.shared_with ?? "host") === "host")
      .map((name) => `the ${name} namespace is the host's`),
    ...sharedWithOthers.filter((name) => own.has(name)).map((name) => `the ${name} namespace is shared with another tenant`),
  ]
}

function userDeviations(read: Reading, { idRange, promise }: Expected): string[] {
  const { uid_map, gid_map, root_is_host_root } = read.user
  const right = (map: Reading["user"]["uid_map"]) => {
    const [line] = map
    if (map.length !== 1 || line === undefined) return false
    switch (promise.ids) {
      case "tenant":
        return line.inside === 0 && line.outside === idRange.hostBase && line.count === idRange.size
      case "nobody":
        return line.outside === NOBODY && line.count === 1
    }
  }
  const whose = { tenant: "the tenant's range alone", nobody: "nobody's id alone" }[promise.ids]
  return [
    ...(right(uid_map) ? [] : [`user ids are not mapped to ${whose}`]),
    ...(right(gid_map) ? [] : [`group ids are not mapped to ${whose}`]),
    ...(root_is_host_root ? ["the container's root is the host's root"] : []),
  ]
}

/** The kernel's overflow id, which Linux keeps for no user. */
const NOBODY = 65_534

function privilegeDeviations(read: Reading, { filterSha256, promise, capabilities }: Expected): string[] {
  const most = promise.capabilities(capabilities)
  const found: string[] = []
  for (const set of ["bounding", "effective", "permitted", "inheritable", "ambient"] as const) {
    const allowed = most[set]
    if (allowed === null) continue
    for (const name of read.capabilities[set]) if (!allowed.includes(name)) found.push(`${name} is in the ${set} set`)
  }
  if (!read.no_new_privileges) found.push("new privileges can be gained")
  if (read.seccomp.mode !== "filter" || read.seccomp.filters < 1) found.push("no system call filter is in force")
  else if (filterSha256 !== null && read.seccomp.sha256 !== null && read.seccomp.sha256 !== filterSha256) {
    found.push("the system call filter is not the profile's")
  }
  return found
}

function pathDeviations(read: Reading, { existingPaths, promise }: Expected): string[] {
  const masked = new Set(read.masked_paths)
  const readOnly = new Set(read.read_only_paths)
  const open = (paths: readonly string[], closed: ReadonlySet<string>) =>
    paths.filter((path) => existingPaths.has(path) && !closed.has(path))
  return [
    ...open(promise.maskedPaths, masked).map((path) => `${path} is not masked`),
    ...open(promise.readOnlyPaths, readOnly).map((path) => `${path} is not read-only`),
  ]
}

function mountDeviations(read: Reading, { promise, readOnly, devices, mounts }: Expected): string[] {
  const known = new Set([
    ...promise.mayMount(readOnly),
    ...read.masked_paths,
    ...read.read_only_paths,
    ...Object.keys(devices),
    ...mounts,
  ])
  const found: string[] = []
  for (const { target } of read.mounts) {
    if (!known.has(target) && !target.startsWith("/sys/fs/cgroup/")) found.push(`${target} is mounted and should not be`)
  }
  for (const [target, options] of Object.entries(promise.mustMount(readOnly))) {
    // What was mounted last is what is seen.
    const mount = read.mounts.findLast((each) => each.target === target)
    if (mount === undefined) found.push(`${target} is not a mount of its own`)
    else for (const option of options) if (!mount.options.includes(option)) found.push(`${target} is not mounted ${option}`)
  }
  for (const { target, options, type } of read.mounts) {
    if (type.startsWith("cgroup") && !options.includes("ro")) found.push(`${target} is writable`)
  }
  return found
}

function deviceDeviations(read: Reading, { promise, devices }: Expected): string[] {
  return read.devices.flatMap(({ path, type, major, minor }) => {
    const known = devices[path] ?? promise.devices[path]
    if (known === undefined) return [`${path} is a device and was not granted`]
    return known === null || known === `${type} ${major}:${minor}` ? [] : [`${path} is another device: ${type} ${major}:${minor}`]
  })
}
