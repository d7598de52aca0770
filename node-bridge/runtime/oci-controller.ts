/**
 * Opens the controller that runs real containers on this host: finds the tools, composes the parts, takes over what still
 * runs, and offers a profile once its self-test ran here.
 */
import { chmodSync, closeSync, lstatSync, mkdirSync, openSync, readFileSync } from "node:fs"
import { arch } from "node:os"
import { join } from "node:path"
import { DirectoryImageStore } from "../image/store.ts"
import type { ImageStoreOptions } from "../image/store.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { CreateNamespaces } from "../mount/create-namespaces.ts"
import { StoredIdRanges } from "../mount/id-ranges.ts"
import { IdmappedRoots } from "../mount/root-mounts.ts"
import { TenantNamespaces } from "../mount/user-namespaces.ts"
import { markUnrelated } from "../native/libc.ts"
import { sealedProgram } from "../native/sealed-program.ts"
import { NamespacePool } from "../network/pool.ts"
import type { PoolOptions } from "../network/pool.ts"
import { ownProcs, parseCgroupLayout } from "./cgroup-layout.ts"
import { Cgroups } from "./cgroups.ts"
import type { Controller } from "./controller.ts"
import { MigrationLock } from "./migration-lock.ts"
import { OciController } from "./oci-runs.ts"
import { hostPaths } from "./paths.ts"
import type { HostPaths } from "./paths.ts"
import type { ImageStore } from "./ports.ts"
import { bootId } from "./process-identity.ts"
import { RuntimeCli } from "./runtime-cli.ts"
import { compileSeccomp } from "./seccomp-compile.ts"
import { passedBefore, remember, runSelfTest } from "./self-test.ts"
import { findTools } from "./tools.ts"
import type { ToolName } from "./tools.ts"
import { readVersions } from "./versions.ts"

export interface OciControllerOptions {
  readonly stateDir: string
  /** Sockets and mount points; default: a directory under `/run` named by the state. */
  readonly runtimeDir?: string
  readonly runtime: "crun" | "runc"
  /** OCI layouts that may be named as `localhost/NAME:TAG`. */
  readonly imagesDir: string | null
  /** Registry credentials, as containers-auth.json(5). */
  readonly authFile?: string | null
  /** How long registries may take, and where they may be; the store's own defaults where absent. */
  readonly registries?: Pick<ImageStoreOptions, "resolveTimeoutMs" | "pullTimeoutMs" | "loopbackRegistries">
  readonly network?: Omit<PoolOptions, "stateDir">
  readonly log: Log
  /** Programs to use in place of those that are found. */
  readonly tools?: Readonly<Partial<Record<ToolName, string>>>
  /** An image store to use in place of the directory store under the state. */
  readonly images?: ImageStore
}

/** Throws a sentence for the operator when this machine cannot run containers. */
export async function createOciController(options: OciControllerOptions): Promise<Controller> {
  const { runtime, log } = options
  const { paths: found, missing } = findTools(options.tools ?? {})
  const absent = missing.filter((name) => name === runtime || (name !== "crun" && name !== "runc"))
  if (absent.length > 0) throw new Error(`These programs are missing on this host: ${absent.join(", ")}.`)
  if (process.getuid?.() !== 0) throw new Error("Containers can only be run by root.")
  const architecture = arch() === "arm64" ? "arm64" : "amd64"
  const layout = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  if (layout.mounts.size === 0) throw new Error("No cgroups are mounted on this host: limits could not be enforced.")

  const host = hostPaths(options.stateDir, runtime, options.runtimeDir)
  makeDirectories(host)
  const versions = await readVersions(found, missing)
  const sealed = runtime === "crun" ? sealedProgram(found.crun, "crun") : null
  const tools = sealed === null ? found : { ...found, crun: sealed.path }
  const cgroups = new Cgroups(layout)
  const cli = new RuntimeCli(runtime, host, tools)
  const ranges = await StoredIdRanges.open(join(host.stateDir, "id-ranges.json"))
  const namespaces = new TenantNamespaces(ranges)
  const images =
    options.images ??
    (await DirectoryImageStore.open({
      dir: join(host.stateDir, "image-store"),
      imagesDir: options.imagesDir,
      authFile: options.authFile ?? null,
      ...options.registries,
    }))
  const network = await NamespacePool.open({ ...options.network, stateDir: host.stateDir })
  for (const note of network.notes) log.info(note)
  const creation = new CreateNamespaces(runtime === "crun" ? layout.hidden : null)
  const controller = new OciController(
    {
      runtime,
      architecture,
      cgroupVersion: layout.version,
      maxOpenFiles: ownOpenFileLimit(),
      // runc compiles the list itself; crun takes it ready.
      seccompBpf: runtime === "crun" ? compileSeccomp(host.runtimeDir).toString("base64") : null,
      bootId: bootId(),
      host,
      tools,
      cgroups,
      cli,
      migrations: new MigrationLock(ownProcs(layout, readFileSync("/proc/self/cgroup", "utf8"))),
      creation,
      log,
      versions,
      parts: { images, ranges, namespaces, roots: new IdmappedRoots((range) => namespaces.descriptor(range)), network },
    },
    async () => {
      await network.close()
      await namespaces.close()
      creation.close()
      sealed?.release()
    },
  )
  await controller.recover()

  const key = JSON.stringify({ runtime, ...versions })
  try {
    if (!passedBefore(host.stateDir, key)) {
      await runSelfTest(controller, host, tools)
      remember(host.stateDir, key)
    }
    controller.profiles = ["hardened"]
  } catch (error) {
    log.error("the self-test of the hardened profile failed: it is not offered", { error: explain(error) })
  }
  await network.refill()
  return controller
}

function makeDirectories(host: HostPaths): void {
  for (const dir of [host.stateDir, host.runsDir, host.exitsDir]) mkdirSync(dir, { recursive: true, mode: 0o700 })
  spreadOut(host.runsDir)
  for (const dir of [host.runtimeDir, host.mountsDir, host.runtimeRoot, host.socketsDir, host.bundlesDir]) {
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
