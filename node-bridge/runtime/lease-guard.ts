/**
 * Sees to it that containers end with their lease though the bridge is stopped or gone: conmon, crun and the container know nothing
 * of leases and live on without it. A small process beside the bridge (`lease-guard.sh`) kills what is left of the runs named here
 * once the time that the bridge keeps in the lease's file has come. It outlives the bridge, and ends when nothing needs it.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { RunId } from "../../schema/ids.ts"
import { CGROUP_PARENT } from "../oci/hardened.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import type { CgroupLayout } from "./cgroup-layout.ts"
import { startDetached } from "./exec.ts"
import type { HostPaths } from "./paths.ts"
import { leaseFileOf } from "./paths.ts"
import { identify, isAlive, sendSignal } from "./process-identity.ts"
import type { ProcessIdentity } from "./process-identity.ts"

const SCRIPT = join(import.meta.dirname, "lease-guard.sh")
const SIGKILL = 9

export class LeaseGuard {
  readonly #host: HostPaths
  readonly #parents: readonly string[]
  readonly #log: Log
  /** Names the process for the next bridge. */
  readonly #pidFile: string
  #process: ProcessIdentity | null

  constructor(host: HostPaths, layout: CgroupLayout, log: Log) {
    this.#host = host
    this.#log = log
    const controllers = layout.version === 2 ? ["unified"] : ["pids", "freezer"]
    const mounts = new Set(controllers.flatMap((name) => layout.mounts.get(name) ?? []))
    this.#parents = [...mounts].map((mount) => join(mount, CGROUP_PARENT))
    this.#pidFile = `${host.leasedDir}.pid`
    this.#process = known(this.#pidFile)
    if (this.#guarded().length > 0) this.#start()
  }

  /** Before the run's process is let go: from now on it ends with the lease, whatever becomes of this bridge. */
  add(runId: RunId): void {
    mkdirSync(this.#host.leasedDir, { recursive: true, mode: 0o700 })
    writeFileSync(join(this.#host.leasedDir, runId), "")
    this.#start()
  }

  /** No process of the run is left. */
  remove(runId: RunId): void {
    rmSync(join(this.#host.leasedDir, runId), { force: true })
  }

  /** The bridge ends: who has nothing left to guard ends too. */
  close(): void {
    if (this.#guarded().length > 0) return
    if (this.#process) sendSignal(this.#process, SIGKILL)
    rmSync(this.#pidFile, { force: true })
    try {
      rmdirSync(this.#host.leasedDir)
    } catch {
      // never made
    }
  }

  #guarded(): string[] {
    try {
      return readdirSync(this.#host.leasedDir)
    } catch {
      return [] // never made
    }
  }

  #start(): void {
    if (this.#process && isAlive(this.#process)) return
    const args = [SCRIPT, leaseFileOf(this.#host.stateDir), this.#host.leasedDir, ...this.#parents]
    const { pid, exited } = startDetached("/bin/sh", args, { cwd: "/", env: {}, pipes: 0 })
    const failed = (error: unknown) =>
      this.#log.error("nobody guards the lease while this bridge is away", { error: explain(error) })
    exited.catch(failed)
    this.#process = pid === undefined ? null : identify(pid)
    if (this.#process) writeFileSync(this.#pidFile, `${this.#process.pid} ${this.#process.startTicks}`)
  }
}

function known(path: string): ProcessIdentity | null {
  try {
    const [pid, startTicks] = readFileSync(path, "utf8").split(" ").map(Number)
    return pid && startTicks ? { pid, startTicks } : null
  } catch {
    return null
  }
}
