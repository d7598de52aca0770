/**
 * Makes a run ready: image, network, root, `config.json`. What it leaves is in the run's own directories alone; the rest are
 * descriptors of this process, which is why a run that another bridge prepared is prepared anew.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { hostPids } from "../../schema/features.ts"
import type { Assignment, RunSpec } from "../../schema/protocol.ts"
import { inImage } from "../device/mount-points.ts"
import type { PlannedHook } from "../device/plan.ts"
import type { DeviceRegistry } from "../device/registry.ts"
import type { IdentitySockets } from "../identity/sockets.ts"
import type { DeviceNodes } from "../mount/device-nodes.ts"
import { etcFiles } from "../oci/etc-files.ts"
import { processArgs, processEnv, processWorkdir } from "../oci/process.ts"
import { composeSpec } from "../oci/spec.ts"
import { resolveUser } from "../oci/user.ts"
import { ControllerError } from "./controller.ts"
import type { HostRecord } from "./host-record.ts"
import { readImageText } from "./image-files.ts"
import type { RunPaths } from "./paths.ts"
import type { Processors } from "./processors.ts"
import type { Disks, HeldPath, IdRanges, ImageStore, NetworkPool, RootMounts, StoredImage, UserNamespaces } from "./ports.ts"
import { RUNTIMES } from "./runtimes.ts"
import type { RuntimeName } from "./runtimes.ts"
import { checkDenied } from "./seccomp-filters.ts"
import type { Filter, SeccompFilters } from "./seccomp-filters.ts"
import { parseStopSignal } from "./stop-signal.ts"
import type { Stopwatch } from "./stopwatch.ts"

export interface Parts {
  readonly images: ImageStore
  readonly ranges: IdRanges
  readonly namespaces: UserNamespaces
  readonly roots: RootMounts
  readonly disks: Disks
  readonly devices: Pick<DeviceRegistry, "take" | "release">
  readonly processors: Processors
  readonly identities: IdentitySockets
  readonly network: NetworkPool
}

export interface PrepareHost {
  readonly runtime: RuntimeName
  readonly architecture: "amd64" | "arm64"
  readonly cgroupVersion: 1 | 2
  readonly maxOpenFiles: number
  readonly filters: SeccompFilters | null
  readonly bootId: string
}

/** A run that `start` can start: what it needs and what `start` puts on record. */
export interface PreparedRun {
  readonly record: HostRecord
  readonly lower: HeldPath
  readonly disk: HeldPath
  /** Null where the runtime makes one of its own. */
  readonly netns: string | null
  /** Null: it has none but the standard devices. */
  readonly devices: DeviceNodes | null
  readonly hooks: readonly PlannedHook[]
  readonly command: string
  readonly workdir: string
  readonly tty: boolean
}

/** Where a run's image comes from: the store, or the self-test, which brings its own. */
export type ImageSource = (signal: AbortSignal) => Promise<StoredImage>

/** A directory that only root may pass: names inside are guessable. */
const PRIVATE = 0o700

export async function prepareRun(
  run: Assignment,
  paths: RunPaths,
  host: PrepareHost,
  parts: Parts,
  watch: Stopwatch,
  imageOf: ImageSource,
  signal: AbortSignal,
): Promise<PreparedRun> {
  const { spec } = run
  if (spec.resources.open_files > host.maxOpenFiles) {
    const message = `This node can give a process ${host.maxOpenFiles} open files at most.`
    throw new ControllerError("open_files_unavailable", message)
  }
  const filter = filterOf(run, host)
  const image = await watch.time("image", () => imageOf(signal))
  parts.images.retain(image.digest, run.run_id)
  signal.throwIfAborted()

  const grant = run.devices.length === 0 ? null : await watch.time("devices", () => takeDevices(run, host, parts, image, signal))
  const network = await watch.time("network", () => takeNetwork(run, host, parts))
  const { range, userns, lower, disk } = await watch.time("root", () => makeRoot(run, paths, host, parts, image))
  try {
    return await watch.time("spec", async () => {
      const user = resolveUser(
        spec.user ?? image.config.user,
        readImageText(image.rootDir, "etc/passwd"),
        readImageText(image.rootDir, "etc/group"),
      )
      if (!user.ok) throw new ControllerError(user.error.code, user.error.message)
      const args = processArgs(spec, image.config)
      if (!args.ok) throw new ControllerError(args.error.code, args.error.message)
      const workdir = processWorkdir(spec, image.config)
      const etc = { hostname: spec.hostname, address: network.address, nameservers: network.nameservers }
      for (const [name, text] of Object.entries(etcFiles(etc))) {
        writeFileSync(join(paths.etc, name), text, { mode: 0o644 })
      }
      const config = composeSpec({
        run,
        args: args.value,
        env: processEnv(spec, image.config, user.value.home),
        workdir,
        user: user.value,
        range,
        paths: { ...paths, netns: network.netnsPath, userns },
        grant,
        host,
        seccompBpf: filter?.bpf ?? null,
      })
      writeFileSync(paths.config, JSON.stringify(config), { mode: 0o600 })
      if (spec.identity) await parts.identities.open(run, paths.identity)
      const record: HostRecord = {
        run_id: run.run_id,
        tenant_id: run.tenant_id,
        profile: spec.profile,
        runtime: host.runtime,
        image_digest: image.digest,
        boot_id: host.bootId,
        stop_signal: parseStopSignal(image.config.stopSignal),
        network: spec.network,
        names: [spec.hostname],
        address: network.address,
        host_base: range.hostBase,
        read_only: spec.read_only,
        limits: { ...spec.resources, pids: hostPids(spec) },
        capabilities: spec.capabilities,
        filter_sha256: filter?.sha256 ?? null,
        devices: run.devices,
        device_nodes: Object.fromEntries(
          grant?.nodes.map((node) => [node.path, `${node.type} ${node.major}:${node.minor}`]) ?? [],
        ),
        device_mounts: grant?.mounts.map(({ path }) => path) ?? [],
        identity: spec.identity,
        disk_bytes: spec.resources.disk_bytes,
        processors: parts.processors.take(run.run_id, spec.resources.cpus),
        uid: user.value.uid,
        init: null,
        file_server: null,
        monitor: null,
        started_at_ms: null,
      }
      const { uid, gid } = user.value
      const devices = grant && { directory: paths.devices, nodes: grant.nodes, hostBase: range.hostBase, uid, gid }
      const hooks = grant?.hooks ?? []
      const command = args.value[0] ?? ""
      return { record, lower, disk, netns: network.netnsPath, devices, hooks, command, workdir, tty: spec.tty }
    })
  } catch (error) {
    lower.release()
    disk.release()
    throw error
  }
}

/** The run's devices, with their files' places found in its image. */
async function takeDevices(run: Assignment, host: PrepareHost, parts: Parts, image: StoredImage, signal: AbortSignal) {
  if (RUNTIMES[host.runtime].ownKernel) {
    throw new ControllerError("devices_unavailable", `Under the profile ${run.spec.profile} this node can give no devices.`)
  }
  const grant = await parts.devices.take(run.run_id, run.devices, signal)
  return { ...grant, mounts: grant.mounts.map((mount) => inImage(image.rootDir, mount)) }
}

/** A runtime that can be given none makes its own, with loopback alone. */
async function takeNetwork({ run_id, tenant_id, spec }: Assignment, host: PrepareHost, parts: Parts) {
  refuseNetwork(host.runtime, spec)
  if (RUNTIMES[host.runtime].takesNetwork) return parts.network.take(run_id, tenant_id, spec.network, [spec.hostname])
  return { netnsPath: null, address: null, nameservers: [] }
}

/** Throws where a run's runtime can be given no network, and is asked for one. */
export function refuseNetwork(runtime: RuntimeName, { profile, network }: Pick<RunSpec, "profile" | "network">): void {
  if (RUNTIMES[runtime].takesNetwork || network.egress === "none") return
  const message = `Under the profile ${profile} this node can give no network but loopback: ask for egress none.`
  throw new ControllerError("network_unavailable", message)
}

/** Null where the runtime compiles the list itself, or has a filter of its own that nothing can be taken from. */
function filterOf({ spec }: Assignment, { runtime, filters }: PrepareHost): Filter | null {
  const { deny } = spec.seccomp
  if (filters !== null) return filters.without(deny)
  if (RUNTIMES[runtime].filter === "list") checkDenied(deny)
  else if (deny.length > 0) {
    const message = `Under the profile ${spec.profile} this node cannot deny system calls.`
    throw new ControllerError("seccomp_deny_unavailable", message)
  }
  return null
}

async function makeRoot(run: Assignment, paths: RunPaths, host: PrepareHost, parts: Parts, image: StoredImage) {
  const range = await parts.ranges.rangeOf(run.tenant_id)
  const pinned = RUNTIMES[host.runtime].userNamespace === "tenant"
  const userns = pinned ? (await parts.namespaces.of(run.tenant_id)).path : null
  mkdirSync(paths.bundle, { recursive: true, mode: PRIVATE })
  const ofDevices = run.devices.length > 0 ? [paths.devices] : []
  const ofIdentity = run.spec.identity ? [paths.identity] : []
  for (const dir of [paths.root, paths.sys, paths.etc, ...ofDevices, ...ofIdentity])
    mkdirSync(dir, { recursive: true, mode: 0o755 })
  const lower = await parts.roots.idmapped(image.rootDir, range)
  try {
    // The root of the container's file system is its own root's, as is all that it writes there.
    const disk = await parts.disks.take(run.run_id, run.spec.resources.disk_bytes, range.hostBase)
    return { range, userns, lower, disk }
  } catch (error) {
    lower.release()
    throw error
  }
}
