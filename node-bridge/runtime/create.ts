/** Creates a prepared run's container: a process that waits for the runtime's `start`, and its monitor, both on record. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import type { RunId } from "../../schema/ids.ts"
import { runHooks } from "../device/hooks.ts"
import { isGofer } from "../isolation/companions.ts"
import type { Log } from "../log.ts"
import type { CreateNamespaces } from "../mount/create-namespaces.ts"
import type { Cgroups } from "./cgroups.ts"
import { createUnderConmon } from "./conmon.ts"
import { ControllerError } from "./controller.ts"
import { disksUnder } from "./disk-io.ts"
import { writeRecord } from "./host-record.ts"
import type { HostRecord } from "./host-record.ts"
import { explainStartFailure } from "./messages.ts"
import type { HostPaths, RunPaths } from "./paths.ts"
import type { PreparedRun } from "./preparation.ts"
import { identify } from "./process-identity.ts"
import type { ProcessIdentity } from "./process-identity.ts"
import { RUNTIMES } from "./runtimes.ts"
import type { RuntimeName } from "./runtimes.ts"
import type { ToolPaths } from "./tools.ts"

/** Where this program lies: our own scripts and helpers may be named in what a runtime says. */
const INSTALL_DIR = join(import.meta.dirname, "../..")
/** A create takes some 30 ms; a host out of memory may take seconds. Past this it is taken down and may be tried again. */
const CREATE_TIMEOUT_MS = 30_000

export interface CreateHost {
  readonly host: HostPaths
  readonly tools: ToolPaths
  readonly cgroups: Cgroups
  readonly log: Log
}

/** Throws `ControllerError` with what the runtime said; what there is of the container by then, `release` takes down. */
export async function createContainer(
  on: CreateHost,
  { name: runtime, creation }: { readonly name: RuntimeName; readonly creation: CreateNamespaces },
  runId: RunId,
  paths: RunPaths,
  prepared: PreparedRun,
): Promise<HostRecord> {
  const { host, tools, cgroups, log } = on
  const { lower, disk, netns, devices, tty } = prepared
  const layout = { ...paths, lower: lower.path, dir: disk.path, netns, devices }
  const input = { runId, host, paths, tools, runtime, tty }
  const creating = createUnderConmon(input, (start) => creation.within(layout, start), CREATE_TIMEOUT_MS)
  // Meanwhile, for this thread has nothing else to do; what comes of it is looked at when no process is on its way any more.
  const [created, capped] = await Promise.allSettled([creating, cgroups.makeForMonitor(runId)])
  if (created.status === "rejected") throw created.reason
  if (!created.value.ok) throw startError(on, created.value.message, prepared)
  if (capped.status === "rejected") throw capped.reason
  const { pid } = created.value
  const monitorPid = Number(readFileSync(paths.monitorPidFile, "utf8"))
  const file_server = RUNTIMES[runtime].ownKernel ? fileServerAmong(cgroups.processes(runId)) : null
  const record = { ...prepared.record, init: identify(pid), file_server, monitor: identify(monitorPid) }
  writeRecord(paths.record, record)
  cgroups.capMonitor(runId, monitorPid)
  if (record.processors !== null) cgroups.holdTo(runId, record.processors)
  // The kernel charges the disk that an image file is on to whoever wrote to the loop device.
  const { io } = record.limits
  if (Object.keys(io).length > 0) cgroups.limitIo(runId, io, disksUnder([host.stateDir, lower.path]))
  await runHooks(prepared.hooks, { runId, pid, dir: paths.dir, log })
  return record
}

function fileServerAmong(pids: readonly number[]): ProcessIdentity | null {
  for (const pid of pids) {
    try {
      if (isGofer(pid)) return identify(pid)
    } catch {
      // It was a helper of the create, and has ended.
    }
  }
  return null
}

/** What a runtime said, in words for the tenant. */
export function startError({ host, log }: CreateHost, said: string, { command, workdir }: PreparedRun): ControllerError {
  log.warn("the runtime refused a container", { said })
  const hostDirs = [host.stateDir, host.runtimeDir, INSTALL_DIR]
  const { reason, exitCode, retryable } = explainStartFailure(said, { command, workdir, hostDirs })
  return new ControllerError(reason.code, reason.message, { exitCode, retryable })
}
