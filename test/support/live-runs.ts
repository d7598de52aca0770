/** Which runs have live processes, as the kernel says; kept up to date by a thread, so that a busy test loses no look. */
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { Worker } from "node:worker_threads"
import { cgroupPathOf } from "../../node-bridge/oci/spec.ts"
import { parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Look, SamplerOptions } from "./live-runs-sampler.ts"

export interface LiveRun {
  readonly run: RunId
  readonly container: number
  readonly host: string
}

export class LiveRuns {
  /** By run. */
  readonly #live = new Map<RunId, LiveRun>()
  /** Runs with a cgroup and no process. */
  readonly #empty = new Set<RunId>()
  readonly #worker: Worker

  /** `hostOf` also knows the runs that have ended. */
  constructor(options: Omit<SamplerOptions, "cgroups">, onLook: (look: Look, hostOf: (run: RunId) => string) => void) {
    const layout = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
    const mount = layout.mounts.get("pids") ?? layout.mounts.get("unified")
    if (mount === undefined) throw new Error("no cgroup hierarchy says which processes a run has")
    const workerData: SamplerOptions = { ...options, cgroups: dirname(join(mount, cgroupPathOf("run"))) }
    const hosts = new Map<RunId, string>()
    this.#worker = new Worker(new URL("./live-runs-sampler.ts", import.meta.url), { workerData })
    this.#worker.on("message", (look: Look) => {
      for (const run of look.ended) {
        this.#live.delete(run)
        this.#empty.add(run)
      }
      for (const run of look.gone) this.#empty.delete(run)
      for (const one of look.began) {
        hosts.set(one.run, one.host)
        this.#live.set(one.run, one)
      }
      onLook(look, (run) => hosts.get(run) ?? "nowhere")
    })
    this.#worker.on("error", (error) => {
      throw error
    })
  }

  /** Runs that have ended and of which a cgroup is left. */
  get remains(): readonly RunId[] {
    return [...this.#empty]
  }

  of(container: number): LiveRun[] {
    return [...this.#live.values()].filter((one) => one.container === container)
  }

  on(host: string): LiveRun[] {
    return [...this.#live.values()].filter((one) => one.host === host)
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }
}
