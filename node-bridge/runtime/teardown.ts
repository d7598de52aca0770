/**
 * Takes a run down, from whatever point it or an earlier takedown had come to. Every step looks first and is harmless when
 * there is nothing to do. Processes go before cgroups, and cgroups before files: what still runs must not lose its limits.
 */
import { readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync, statSync } from "node:fs"
import { basename, join } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import type { RunId } from "../../schema/ids.ts"
import { sealedName } from "../native/sealed-program.ts"
import type { Cgroups } from "./cgroups.ts"
import { exec } from "./exec.ts"
import { readRecord } from "./host-record.ts"
import type { HostPaths, RunPaths } from "./paths.ts"
import { identify, isAlive, sendSignal } from "./process-identity.ts"
import type { ProcessIdentity } from "./process-identity.ts"
import { OWNER_FILE, runtimeRootOf } from "./paths.ts"
import type { RuntimeClis } from "./runtime-cli.ts"
import { RUNTIME_NAMES } from "./runtimes.ts"
import type { ToolPaths } from "./tools.ts"

const SIGKILL = 9
/** A monitor copies the last output and writes the exit code once its container is dead; then it ends by itself. */
const MONITOR_END_MS = 3_000
const POLL_MS = 5
/** A container may have written millions of files. */
const REMOVE_TIMEOUT_MS = 300_000
const HELPERS = new Set<string>(["conmon", ...RUNTIME_NAMES, "busybox", basename(sealedName("crun"))])

export interface TeardownTools {
  readonly host: HostPaths
  readonly tools: ToolPaths
  readonly cgroups: Cgroups
  readonly clis: RuntimeClis
}

/** Ends every process of the run, and throws while one lives; `inspect` puts its outcome on record. */
export async function endRun(
  on: TeardownTools & { readonly bootId: string },
  runId: RunId,
  paths: RunPaths,
  inspect: () => Promise<unknown>,
): Promise<void> {
  await inspect() // while the cgroup can be asked
  const record = readRecord(paths.record)
  const sameBoot = record?.boot_id === on.bootId
  await endProcesses(on, runId, sameBoot ? (record?.monitor ?? null) : null, record?.init != null)
  if (record !== null) await inspect() // and of one that was just killed
}

/** Ends the container's processes, then its monitor, which writes the exit code in between. */
async function endProcesses(
  { cgroups }: TeardownTools,
  runId: RunId,
  monitor: ProcessIdentity | null,
  created: boolean,
): Promise<void> {
  // A create that was cut off may still be on its way: its processes first, or it would go on behind our back.
  if (!created) for (const helper of helpersOf(runId)) sendSignal(helper, SIGKILL)
  if (!(await cgroups.kill(runId))) throw new Error(`processes of ${runId} do not die`)
  if (monitor !== null) {
    const deadline = performance.now() + MONITOR_END_MS
    while (isAlive(monitor) && performance.now() < deadline) await delay(POLL_MS)
    sendSignal(monitor, SIGKILL)
  }
}

/** Removes what a run that has ended left but its log and its records. */
export async function removeLeftovers(
  { cgroups, clis, tools, host }: TeardownTools,
  runId: RunId,
  paths: RunPaths,
): Promise<void> {
  // Which one created it, a record may not have lived to say.
  for (const name of RUNTIME_NAMES) await clis[name].delete(runId)
  cgroups.remove(runId)
  rmSync(join(host.socketsDir, runId), { recursive: true, force: true })
  // By rm(1): it walks by descriptor, so that a tree deeper than the longest path is no obstacle.
  await removeTrees(tools, [paths.mounts, paths.bundle])
}

export async function removeTrees(tools: ToolPaths, dirs: readonly string[]): Promise<void> {
  const { code, stderr } = await exec(tools.rm, ["-rf", "--one-file-system", "--", ...dirs], { timeoutMs: REMOVE_TIMEOUT_MS })
  if (code !== 0) throw new Error(`rm: ${stderr.trim()}`)
}

/** What a live run has in it stays, and so does the directory. */
export function removeRuntimeDirectory(host: HostPaths): void {
  const roots = RUNTIME_NAMES.map((name) => runtimeRootOf(host, name))
  try {
    for (const dir of [...roots, host.socketsDir, host.mountsDir, host.bundlesDir]) rmdirSync(dir)
    rmSync(join(host.runtimeDir, OWNER_FILE), { force: true })
    rmdirSync(host.runtimeDir)
  } catch {
    // Not empty: a run lives on, and the next bridge takes both up.
  }
}

/** Root's own conmon and runtime processes that were started for this run, found by an argument that is its id. */
function helpersOf(runId: RunId): ProcessIdentity[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        if (statSync(`/proc/${name}`).uid !== 0) return []
        if (!readFileSync(`/proc/${name}/cmdline`, "latin1").split("\0").includes(runId)) return []
        if (!HELPERS.has(basename(readlinkSync(`/proc/${name}/exe`)))) return []
        const identity = identify(Number(name))
        return identity === null ? [] : [identity]
      } catch {
        return [] // It ended while we looked.
      }
    })
}
