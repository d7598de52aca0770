/**
 * The one function that makes a `config.json`: a hardened base and what this run asks for. Pure and total: the same input
 * gives the same bytes, and nothing a tenant wrote can add a mount, a namespace, a capability, a hook or an annotation.
 */
import { CAPABILITIES } from "../../schema/container.ts"
import type { Capability } from "../../schema/container.ts"
import { hostPids } from "../../schema/features.ts"
import { IDENTITY_DIR } from "../../schema/identity.ts"
import type { Assignment } from "../../schema/protocol.ts"
import type { Grant } from "../device/grant.ts"
import type { IdRange } from "../runtime/ports.ts"
import { RUNTIMES } from "../runtime/runtimes.ts"
import type { RuntimeName } from "../runtime/runtimes.ts"
import { cpuFor } from "./cpu.ts"
import { deviceMounts, deviceRules, withDeviceEnv } from "./devices.ts"
import {
  BASE_MOUNTS,
  CGROUP_PARENT,
  ETC_FILES,
  MASKED_PATHS,
  NAMESPACES,
  OOM_SCORE_ADJ,
  READ_ONLY_PATHS,
  SANDBOX_MOUNTS,
  WRITABLE_MOUNTS,
} from "./hardened.ts"
import { seccompForRuntime } from "./seccomp.ts"
import type { OciCapabilities, OciMount, OciNamespace, OciResources, OciSpec } from "./spec-types.ts"
import type { ResolvedUser } from "./user.ts"

export interface SpecInput {
  readonly run: Pick<Assignment, "run_id" | "spec">
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly workdir: string
  readonly user: ResolvedUser
  readonly range: IdRange
  readonly paths: {
    /** Where the create step mounts the root and the sysfs of the run's network namespace. */
    readonly root: string
    readonly sys: string
    /** The directory with our `hosts`, `hostname` and `resolv.conf`. */
    readonly etc: string
    /** Where the create step makes the run's own device nodes. */
    readonly devices: string
    /** The directory with the socket of its identity. */
    readonly identity: string
    /** Null: the runtime makes one of its own. */
    readonly netns: string | null
    /** The tenant's pinned user namespace; null for one of the container's own, made by the runtime. */
    readonly userns: string | null
  }
  /** Null: no device but the standard ones. */
  readonly grant: Grant | null
  readonly host: {
    readonly runtime: RuntimeName
    readonly architecture: "amd64" | "arm64"
    readonly cgroupVersion: 1 | 2
  }
  /** The compiled filter for runtimes that take one (crun), base64; null: the runtime compiles the list itself. */
  readonly seccompBpf: string | null
}

export const cgroupPathOf = (runId: string) => `${CGROUP_PARENT}/${runId}`

export function composeSpec(input: SpecInput): OciSpec {
  const { run, user, paths, host, range } = input
  const traits = RUNTIMES[host.runtime]
  const mapping = [{ containerID: 0, hostID: range.hostBase, size: range.size }]
  const openFiles = run.spec.resources.open_files
  return {
    ociVersion: "1.0.2",
    process: {
      terminal: run.spec.tty,
      user: {
        uid: user.uid,
        gid: user.gid,
        additionalGids: [...user.additionalGids, ...(input.grant?.additionalGids ?? [])],
        umask: 0o022,
      },
      args: input.args,
      env: withDeviceEnv(input.env, input.grant),
      cwd: input.workdir,
      capabilities: capabilitiesFor(user.uid, run.spec.capabilities),
      rlimits: [
        { type: "RLIMIT_NOFILE", soft: openFiles, hard: openFiles },
        { type: "RLIMIT_CORE", soft: 0, hard: 0 },
      ],
      noNewPrivileges: true,
      oomScoreAdj: OOM_SCORE_ADJ,
    },
    root: { path: paths.root, readonly: run.spec.read_only },
    hostname: run.spec.hostname,
    mounts: [
      ...(traits.ownKernel ? SANDBOX_MOUNTS : [...BASE_MOUNTS, ...systemMounts(paths.sys)]),
      ...etcMounts(paths.etc),
      ...(run.spec.read_only ? WRITABLE_MOUNTS : []),
      ...(run.spec.identity ? [identityMount(paths.identity)] : []),
      ...(input.grant === null ? [] : deviceMounts(input.grant, paths.devices)),
    ],
    // crun alone reads this; the key is ours, never a tenant's.
    ...(input.seccompBpf === null ? {} : { annotations: { "run.oci.seccomp_bpf_data": input.seccompBpf } }),
    linux: {
      namespaces: NAMESPACES.map((type) => namespaceOf(type, paths)),
      ...(paths.userns === null ? { uidMappings: mapping, gidMappings: mapping } : {}),
      resources: resourcesFor(run, input),
      cgroupsPath: cgroupPathOf(run.run_id),
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READ_ONLY_PATHS,
      rootfsPropagation: "private",
      ...(traits.filter === "list" ? { seccomp: seccompForRuntime(host.architecture, run.spec.seccomp.deny) } : {}),
    },
  }
}

/** A user other than root starts with none in effect, as everywhere; the bound holds for both. */
function capabilitiesFor(uid: number, asked: readonly Capability[]): OciCapabilities {
  const bounding = CAPABILITIES.filter((name) => asked.includes(name))
  const held = uid === 0 ? bounding : []
  return { bounding, effective: held, permitted: held, inheritable: [], ambient: [] }
}

function namespaceOf(type: OciNamespace["type"], paths: SpecInput["paths"]): OciNamespace {
  if (type === "network") return paths.netns === null ? { type } : { type, path: paths.netns }
  return type === "user" && paths.userns !== null ? { type, path: paths.userns } : { type }
}

/**
 * `/sys` is bound from a sysfs that the create step mounts from inside the run's network namespace: a runtime asked for one
 * itself falls back to the host's, where every interface of the machine is seen.
 */
function systemMounts(sys: string): OciMount[] {
  return [
    { destination: "/sys", type: "bind", source: sys, options: ["bind", "ro", "nosuid", "noexec", "nodev"] },
    {
      destination: "/sys/fs/cgroup",
      type: "cgroup",
      source: "cgroup",
      options: ["ro", "nosuid", "noexec", "nodev", "relatime"],
    },
  ]
}

function etcMounts(directory: string): OciMount[] {
  return ETC_FILES.map((name) => ({
    destination: `/etc/${name}`,
    type: "bind",
    source: `${directory}/${name}`,
    options: ["bind", "ro", "nosuid", "nodev", "noexec"],
  }))
}

/** After a tmpfs on /run. One may connect to a socket on a read-only mount, and make nothing beside it. */
const identityMount = (directory: string): OciMount => ({
  destination: IDENTITY_DIR,
  type: "bind",
  source: directory,
  options: ["bind", "ro", "nosuid", "nodev", "noexec"],
})

function resourcesFor({ spec }: SpecInput["run"], { grant }: SpecInput): OciResources {
  const asked = spec.resources
  return {
    // Deny all; runtimes add the standard devices (null, zero, full, random, urandom, tty, pts) to that by themselves.
    devices: [{ allow: false, access: "rwm" }, ...(grant === null ? [] : deviceRules(grant))],
    // In OCI, `swap` is memory and swap together: equal means no swap.
    memory: { limit: asked.memory_bytes, swap: asked.memory_bytes },
    cpu: cpuFor(asked.cpus),
    pids: { limit: hostPids(spec) },
  }
}
