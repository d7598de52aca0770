/**
 * Opens the controller that runs real containers on this host: finds the tools, composes the parts, takes over what still
 * runs, and offers a profile once its self-test ran here.
 */
import { chmodSync, closeSync, lstatSync, mkdirSync, readdirSync, openSync, readFileSync } from "node:fs"
import { arch } from "node:os"
import { join } from "node:path"
import { DeviceRegistry } from "../device/registry.ts"
import type { DeviceOptions } from "../device/registry.ts"
import { openDisks } from "../disk/open.ts"
import type { DiskOptions } from "../disk/open.ts"
import { MemoryWatch } from "../condition/memory-watch.ts"
import { DiskWatch } from "../disk/watch.ts"
import type { DiskWatchOptions } from "../disk/watch.ts"
import { Profile } from "../../schema/container.ts"
import type { Feature } from "../../schema/features.ts"
import { isId } from "../../schema/ids.ts"
import type { TenantId } from "../../schema/ids.ts"
import { IdentitySockets } from "../identity/sockets.ts"
import type { IdentityTokens } from "../identity/sockets.ts"
import { DirectoryImageStore } from "../image/store.ts"
import type { ImageStoreOptions } from "../image/store.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import type { IsolationWatchOptions } from "../isolation/watch.ts"
import { CreateNamespaces } from "../mount/create-namespaces.ts"
import { StoredIdRanges } from "../mount/id-ranges.ts"
import { IdmappedRoots } from "../mount/root-mounts.ts"
import { TenantNamespaces } from "../mount/user-namespaces.ts"
import { markUnrelated } from "../native/libc.ts"
import { sealedProgram } from "../native/sealed-program.ts"
import { NamespacePool } from "../network/pool.ts"
import type { PoolOptions } from "../network/pool-options.ts"
import { ownProcs, parseCgroupLayout } from "./cgroup-layout.ts"
import type { CgroupLayout } from "./cgroup-layout.ts"
import { Cgroups } from "./cgroups.ts"
import { type Controller, ControllerError } from "./controller.ts"
import { diskIoFeatures } from "./disk-io.ts"
import { Happenings } from "./happenings.ts"
import { readRecord } from "./host-record.ts"
import { claim, clearLeftBehind } from "./left-behind.ts"
import { LeaseGuard } from "./lease-guard.ts"
import { MigrationLock } from "./migration-lock.ts"
import { OciController } from "./oci-runs.ts"
import type { Runtime } from "./oci-runs.ts"
import { hostPaths, runPaths, runtimeRootOf } from "./paths.ts"
import type { HostPaths } from "./paths.ts"
import type { ImageStore, RegistryLogins } from "./ports.ts"
import { bootId } from "./process-identity.ts"
import { Processors } from "./processors.ts"
import { RuntimeCli } from "./runtime-cli.ts"
import type { RuntimeClis } from "./runtime-cli.ts"
import { RUNTIME_NAMES, RUNTIMES } from "./runtimes.ts"
import type { RuntimeName } from "./runtimes.ts"
import { SeccompFilters } from "./seccomp-filters.ts"
import { offeredFeatures, selfTest, tryOut } from "./self-test.ts"
import { findTools } from "./tools.ts"
import type { ToolName } from "./tools.ts"
import { readVersions } from "./versions.ts"
import { Wakefulness } from "./wakefulness.ts"

export interface OciControllerOptions {
  readonly stateDir: string
  /** Sockets and mount points; default: a directory under `/run` named by the state. */
  readonly runtimeDir?: string
  /** What runs the hardened profile. */
  readonly runtime: "crun" | "runc"
  /** The profiles to offer, if their self-test passes; default: every one whose runtime is installed. */
  readonly profiles?: readonly Profile[]
  /** OCI layouts that may be named as `localhost/NAME:TAG`. */
  readonly imagesDir: string | null
  /** Registry credentials, as containers-auth.json(5). */
  readonly authFile?: string | null
  /** How long registries may take, and where they may be; the store's own defaults where absent. */
  readonly registries?: Pick<ImageStoreOptions, "resolveTimeoutMs" | "pullTimeoutMs" | "loopbackRegistries">
  /** For runs that name a registry credential; where absent they are refused. */
  readonly registryLogins?: RegistryLogins
  readonly identityTokens?: IdentityTokens
  readonly network?: Omit<PoolOptions, "stateDir">
  readonly disks?: Omit<DiskOptions, "dir"> & Pick<DiskWatchOptions, "everyMs">
  readonly devices?: DeviceOptions
  /** When live runs are looked at; the watch's own default where absent. */
  readonly isolationWatch?: Pick<IsolationWatchOptions, "everyMs" | "firstLookMs">
  readonly log: Log
  /** Programs to use in place of those that are found. */
  readonly tools?: Readonly<Partial<Record<ToolName, string>>>
  /** An image store to use in place of the directory store under the state. */
  readonly images?: ImageStore
}

/**
 * Throws a sentence for the operator when this machine cannot run containers. When aborted it rejects with the reason at the
 * next step, and has taken away again what it had made.
 */
export async function createOciController(options: OciControllerOptions, signal?: AbortSignal): Promise<Controller> {
  const { log } = options
  const { paths: found, missing } = findTools(options.tools ?? {})
  const { runtimes, absent } = chosenRuntimes(options, missing)
  for (const note of runtimes.notes) log.info(note)
  if (absent.length > 0) throw new Error(`These programs are missing on this host: ${absent.join(", ")}.`)
  if (process.getuid?.() !== 0) throw new Error("Containers can only be run by root.")
  const architecture = arch() === "arm64" ? "arm64" : "amd64"
  const layout = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  if (layout.mounts.size === 0) throw new Error("No cgroups are mounted on this host: limits could not be enforced.")

  const host = hostPaths(options.stateDir, options.runtimeDir)
  makeDirectories(host)
  claim(host)
  const versions = await readVersions(found, missing)
  const sealed = options.runtime === "crun" ? sealedProgram(found.crun, "crun") : null
  const tools = sealed === null ? found : { ...found, crun: sealed.path }
  const cgroups = new Cgroups(layout)
  await clearLeftBehind({ host, cgroups, tools, log })
  const clis = Object.fromEntries(RUNTIME_NAMES.map((name) => [name, new RuntimeCli(name, host, tools)])) as RuntimeClis
  const ranges = await StoredIdRanges.open(join(host.stateDir, "id-ranges.json"), tenantsOf(host))
  const namespaces = new TenantNamespaces(ranges)
  const images =
    options.images ??
    (await DirectoryImageStore.open({
      dir: join(host.stateDir, "image-store"),
      imagesDir: options.imagesDir,
      authFile: options.authFile ?? null,
      ...options.registries,
    }))
  const disks = await openDisks({ dir: join(host.stateDir, "disks"), ...options.disks })
  const network = await NamespacePool.open({ warn: (message) => log.warn(message), ...options.network, stateDir: host.stateDir })
  for (const note of network.notes) log.info(note)
  const happenings = new Happenings()
  const guard = new LeaseGuard(host, layout, log)
  const diskWatch = new DiskWatch({
    stateDir: host.stateDir,
    log,
    notice: (notice) => happenings.notice(notice),
    condition: (condition) => happenings.setCondition("disk_pressure", condition),
    ...options.disks,
  })
  await diskWatch.look()
  const memoryWatch = new MemoryWatch({ log, changed: (condition) => happenings.setCondition("memory_pressure", condition) })
  const devices = await DeviceRegistry.open(options.devices ?? {}, host.stateDir, happenings, log)
  const identities = new IdentitySockets(options.identityTokens ?? noTokens, log, Date.now)
  const used = runtimes.chosen.map(([profile, name]) => [profile, useRuntime(name, layout, host)] as const)
  const controller = new OciController(
    {
      runtimes: new Map(used),
      architecture,
      cgroupVersion: layout.version,
      maxOpenFiles: ownOpenFileLimit(),
      bootId: bootId(),
      host,
      tools,
      cgroups,
      clis,
      migrations: new MigrationLock(ownProcs(layout, readFileSync("/proc/self/cgroup", "utf8"))),
      wakefulness: new Wakefulness(),
      registryLogins: options.registryLogins ?? noLogins,
      guard,
      happenings,
      diskWatch,
      devices,
      log,
      versions,
      ...(options.isolationWatch && { isolationWatch: options.isolationWatch }),
      parts: {
        images,
        ranges,
        namespaces,
        roots: new IdmappedRoots((range) => namespaces.descriptor(range)),
        disks,
        devices,
        processors: Processors.ofThisHost(layout),
        identities,
        network,
      },
    },
    async () => {
      guard.close()
      identities.closeAll()
      memoryWatch.close()
      await network.close()
      await disks.close()
      await devices.close()
      await namespaces.close()
      for (const [, { creation }] of used) creation.close()
      sealed?.release()
    },
    // What runs is tried under the first profile that is offered.
    async () => {
      const [offered] = controller.profiles
      if (offered === undefined) throw new Error("no profile passed its self-test when the bridge began")
      const runtime = runtimes.chosen.find(([profile]) => profile === offered.name)?.[1]
      if (runtime !== undefined) await tryOut({ controller, profile: offered.name, host, tools })
    },
  )
  try {
    signal?.throwIfAborted()
    await controller.recover()
    devices.begin()
    const modules = [...OF_MODULES, ...diskIoFeatures(layout, host.stateDir)]
    for (const [profile, runtime] of runtimes.chosen) {
      signal?.throwIfAborted()
      try {
        const seen = await selfTest({ controller, profile, runtime, host, tools, versions })
        const offer = { name: profile, runtime, features: offeredFeatures(runtime, seen, modules) }
        controller.profiles = [...controller.profiles, offer]
      } catch (error) {
        log.error(`the self-test of the ${profile} profile failed: it is not offered`, { runtime, error: explain(error) })
      }
    }
    signal?.throwIfAborted()
    await network.refill()
  } catch (error) {
    await controller.close()
    throw error
  }
  void disks.refill().catch((error: unknown) => log.warn("could not make disks ahead", { error: explain(error) }))
  return controller
}

// oxlint-disable-next-line require-await -- the port is asynchronous
const noTokens: IdentityTokens = async () => {
  throw new Error("there is no platform to ask")
}

/** Whoever opens a controller without a platform, as a purge does, has nobody to ask. */
// oxlint-disable-next-line require-await -- the port is asynchronous
const noLogins: RegistryLogins = async () => {
  throw new ControllerError("registry_credential_unavailable", "There is no platform to ask for the registry credential.")
}

/** What is not for a self-test to see: the modules that do it say it of this host. */
const OF_MODULES: readonly Feature[] = ["network", "bandwidth", "disk_quota", "accelerators"]

/** One runtime for each profile that is wanted or can be had, and what of it the host lacks. */
function chosenRuntimes(options: OciControllerOptions, missing: readonly ToolName[]) {
  const wanted = options.profiles ?? PROFILES
  const candidates = wanted.map((profile) => [profile, profile === "hardened" ? options.runtime : SANDBOX_RUNTIME] as const)
  const chosen = candidates.filter(([, name]) => !missing.includes(name))
  const lacking = candidates.filter(([, name]) => missing.includes(name))
  // What was asked for by name, and what nothing works without.
  const needed = lacking.filter(([profile]) => profile === "hardened" || options.profiles !== undefined).map(([, name]) => name)
  const tools = missing.filter((name) => !RUNTIME_NAMES.some((runtime) => runtime === name))
  const notes = lacking.map(([profile, name]) => `${name} is not installed: the profile ${profile} is not offered`)
  return { runtimes: { chosen, notes }, absent: [...tools, ...needed] }
}

const PROFILES = Profile.options
const SANDBOX_RUNTIME = "runsc"

function useRuntime(name: RuntimeName, layout: CgroupLayout, host: HostPaths): Runtime {
  const { needsUnifiedHidden, filter } = RUNTIMES[name]
  return {
    name,
    creation: new CreateNamespaces(needsUnifiedHidden ? layout.hidden : null),
    filters: filter === "compiled" ? new SeccompFilters(host.runtimeDir) : null,
  }
}

/** Whose runs have anything on this host; null when one does not say whose it is. */
function tenantsOf(host: HostPaths): ReadonlySet<TenantId> | null {
  const tenants = new Set<TenantId>()
  for (const name of readdirSync(host.runsDir)) {
    const record = isId("run", name) ? readRecord(runPaths(host, name).record) : null
    if (record === null) return null
    tenants.add(record.tenant_id)
  }
  return tenants
}

function makeDirectories(host: HostPaths): void {
  for (const dir of [host.stateDir, host.runsDir, host.exitsDir]) mkdirSync(dir, { recursive: true, mode: 0o700 })
  spreadOut(host.runsDir)
  const roots = RUNTIME_NAMES.map((name) => runtimeRootOf(host, name))
  for (const dir of [host.runtimeDir, host.mountsDir, ...roots, host.socketsDir, host.bundlesDir]) {
    mkdirSync(dir, { recursive: true })
    // Its parent may be a place where every user may make directories, under any name.
    if (lstatSync(dir).uid !== 0) throw new Error(`The directory ${dir} is not root's own: remove it.`)
    // A container's process passes through the first two as the tenant's uid, on its way to its own mount points.
    chmodSync(dir, dir === host.runtimeDir || dir === host.mountsDir ? 0o711 : 0o700)
  }
}

/**
 * ext4 then puts each run's files into a part of the disk of its own. Otherwise all are made where others were just deleted,
 * and without a journal ext4 passes by each number that was in use a minute ago: 3 ms of a start on a busy host. Only a
 * hint, and other file systems do not know it.
 */
function spreadOut(dir: string): void {
  const fd = openSync(dir, "r")
  try {
    markUnrelated(fd)
  } catch {
    // Then they lie where the file system puts them.
  } finally {
    closeSync(fd)
  }
}

/** The hard limit of /proc/self/limits; without CAP_SYS_RESOURCE no runtime of ours gets above it. */
function ownOpenFileLimit(): number {
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1]
  return hard === undefined || hard === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(hard)
}
