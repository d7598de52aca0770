/** A real controller on a state of its own, with one image, and the few verbs that tests of containers repeat. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { silentLog } from "../../node-bridge/log.ts"
import type { Controller, Outcome } from "../../node-bridge/runtime/controller.ts"
import { createOciController } from "../../node-bridge/runtime/oci-controller.ts"
import type { OciControllerOptions } from "../../node-bridge/runtime/oci-controller.ts"
import { hostPaths, runPaths, runtimeRootOf } from "../../node-bridge/runtime/paths.ts"
import type { RunPaths } from "../../node-bridge/runtime/paths.ts"
import type { ImageConfig, ImageStore } from "../../node-bridge/runtime/ports.ts"
import type { Assignment, LogEntry, LogOptions } from "../../schema/protocol.ts"
import type { RunId } from "../../schema/ids.ts"
import { anAssignment } from "./assignments.ts"
import type { SpecChanges } from "./assignments.ts"
import { busyboxStore, makeBusyboxRoot } from "./busybox-image.ts"

export const never = new AbortController().signal
const ALL_LOGS: LogOptions = { follow: false, since_ms: null, tail: null, streams: ["stdout", "stderr"], after: null }

export interface HostBench {
  readonly dir: string
  readonly images: ReturnType<typeof busyboxStore>
  /** The bridge that the verbs below speak to; a test may put another in its place. */
  controller: Controller
  /** Another bridge on the same state, as after a crash of the one before: they share no memory. */
  another(): Promise<Controller>
  paths(runId: RunId): RunPaths
  /** A run of `sh -c script`; `spec` may say otherwise. */
  shell(script: string, spec?: SpecChanges): Assignment
  up(run: Assignment): Promise<Assignment>
  outcome(run: Assignment): Promise<Outcome>
  /** Prepares, starts, waits, and reads the log. */
  through(run: Assignment): Promise<{ readonly outcome: Outcome; readonly text: string }>
  log(run: Assignment, options?: Partial<LogOptions>): Promise<LogEntry[]>
  /** Removes every run and closes; the directory goes too. */
  close(): Promise<void>
}

/** A bridge's controller on a bench's directory. */
export function benchController(dir: string, images: ImageStore, options: Partial<OciControllerOptions> = {}) {
  return createOciController({
    stateDir: join(dir, "state"),
    runtime: "crun",
    profiles: ["hardened"],
    imagesDir: null,
    log: silentLog,
    images,
    network: { size: 2 },
    disks: { poolSize: 1, everyMs: 100 },
    ...options,
  })
}

export async function openHostBench(
  options: Partial<OciControllerOptions> & { image?: Partial<ImageConfig> } = {},
): Promise<HostBench> {
  const { image, ...rest } = options
  const dir = mkdtempSync(join(tmpdir(), "berth-host-"))
  makeBusyboxRoot(join(dir, "image"))
  const images = busyboxStore(join(dir, "image"), image)
  const another = () => benchController(dir, images, rest)
  const host = hostPaths(join(dir, "state"))
  // In life one bridge at a time has a state: here one of two may close, and must not take the directory from the other.
  mkdirSync(runtimeRootOf(host, "crun"), { recursive: true })
  writeFileSync(join(runtimeRootOf(host, "crun"), ".bench"), "")
  const bench: HostBench = {
    dir,
    images,
    controller: await another(),
    another,
    paths: (runId) => runPaths(host, runId),
    shell: (script, spec = {}) => anAssignment({ spec: { command: ["sh", "-c", script], network: { egress: "none" }, ...spec } }),
    async up(run) {
      await bench.controller.prepare(run, never)
      await bench.controller.start(run)
      return run
    },
    outcome: (run) => bench.controller.wait(run.run_id, AbortSignal.timeout(20_000)),
    async through(run) {
      await bench.up(run)
      const outcome = await bench.outcome(run)
      const text = (await bench.log(run)).map((entry) => entry.text).join("\n")
      return { outcome, text }
    },
    async log(run, changes = {}) {
      const entries: LogEntry[] = []
      for await (const entry of bench.controller.logs(run.run_id, { ...ALL_LOGS, ...changes }, never)) entries.push(entry)
      return entries
    },
    async close() {
      for (const runId of await bench.controller.list()) await bench.controller.remove(runId)
      await bench.controller.close()
      rmSync(dir, { recursive: true, force: true })
      rmSync(host.runtimeDir, { recursive: true, force: true })
    },
  }
  return bench
}
