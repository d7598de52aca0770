/**
 * Where everything of a run lies. The run's directory is made before anything else of it and removed last, so that a list
 * of these directories is a list of every run of which anything is left.
 *
 * What a reboot may take lies in memory, in a runtime directory: some twenty small files of every start, which cost a disk
 * ten times as much. Its name is short, for a Unix socket's path holds 107 bytes, and is no part of the state's, for the
 * runtime reaches the mount points in it as the tenant's uid, which may not pass through a home directory. Exit files live
 * with the state, so that a code written just before a reboot is still there after it.
 */
import { createHash } from "node:crypto"
import { statfsSync } from "node:fs"
import { join, resolve } from "node:path"
import type { RunId } from "../../schema/ids.ts"
import { RECORD_FILE } from "./host-record.ts"
import type { RuntimeName } from "./runtimes.ts"

/** `/run` is in memory wherever systemd is; the other everywhere, but for all users, so the second choice. */
const MEMORY_FOLDERS = ["/run", "/dev/shm"] as const
export const RUNTIME_DIR_PREFIX = "berth-"
/** In a runtime directory: whose it is. */
export const OWNER_FILE = "owner"
/** TMPFS_MAGIC of statfs(2). */
const TMPFS = 0x01021994

/** Where runtime directories are made: in memory where there is such a place. */
export const memoryFolder = (): string => MEMORY_FOLDERS.find(isInMemory) ?? MEMORY_FOLDERS[0]

function isInMemory(folder: string): boolean {
  try {
    return statfsSync(folder).type === TMPFS
  } catch {
    return false
  }
}

export interface HostPaths {
  readonly stateDir: string
  readonly runtimeDir: string
  readonly runsDir: string
  /** conmon writes one file for each container that ended, named by the run, holding its code. */
  readonly exitsDir: string
  /** conmon makes a directory for each run here, with its attach socket. */
  readonly socketsDir: string
  /** The mount points of each run, passable for everybody. */
  readonly mountsDir: string
  /** What the runtime and conmon are given for each run; a tenant's environment is in it. */
  readonly bundlesDir: string
  /** An empty file for each run that ends with the lease. */
  readonly leasedDir: string
}

/** A runtime's own state (`--root`); gone after a reboot, as are its containers. */
export const runtimeRootOf = (host: HostPaths, runtime: RuntimeName): string => join(host.runtimeDir, runtime)

export function hostPaths(stateDir: string, runtimeDir?: string): HostPaths {
  const state = resolve(stateDir)
  const name = createHash("sha256").update(state).digest("hex").slice(0, 8)
  const run = runtimeDir === undefined ? join(memoryFolder(), `${RUNTIME_DIR_PREFIX}${name}`) : resolve(runtimeDir)
  return {
    stateDir: state,
    runtimeDir: run,
    runsDir: join(state, "runs"),
    exitsDir: join(state, "exits"),
    socketsDir: join(run, "s"),
    mountsDir: join(run, "m"),
    bundlesDir: join(run, "b"),
    leasedDir: join(run, "l"),
  }
}

/** Where the bridge keeps when its lease was renewed and when everything under it must have ended. */
export const leaseFileOf = (stateDir: string): string => join(resolve(stateDir), "lease")

export interface RunPaths {
  readonly dir: string
  readonly bundle: string
  readonly config: string
  readonly record: string
  readonly outcome: string
  /** Holds `root` and `sys`, mount points that stay empty in the host's own mount namespace, and `etc`. */
  readonly mounts: string
  readonly root: string
  readonly sys: string
  readonly etc: string
  /** Mount point of the run's own device nodes, as `root` is. */
  readonly devices: string
  /** Where the socket of its identity is, for runs that asked for one; bound into the container. */
  readonly identity: string
  /** Where the log's files are, among others. */
  readonly logs: string
  readonly log: string
  /** conmon's control pipe, made by it in the bundle. */
  readonly ctl: string
  readonly pidFile: string
  readonly monitorPidFile: string
  readonly exitFile: string
}

export function runPaths(host: HostPaths, runId: RunId): RunPaths {
  const dir = join(host.runsDir, runId)
  const bundle = join(host.bundlesDir, runId)
  const mounts = join(host.mountsDir, runId)
  return {
    dir,
    bundle,
    config: join(bundle, "config.json"),
    record: join(dir, RECORD_FILE),
    outcome: join(dir, "outcome.json"),
    mounts,
    root: join(mounts, "root"),
    sys: join(mounts, "sys"),
    etc: join(mounts, "etc"),
    devices: join(mounts, "dev"),
    identity: join(mounts, "identity"),
    logs: dir,
    log: join(dir, "current"),
    ctl: join(bundle, "ctl"),
    pidFile: join(bundle, "pid"),
    monitorPidFile: join(bundle, "monitor.pid"),
    exitFile: join(host.exitsDir, runId),
  }
}
