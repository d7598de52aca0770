/**
 * conmon, the monitor that owns a container's output and exit code and outlives the bridge. It is started once for each
 * run, in the mount namespace made for it: it runs the runtime's `create`, says the container's pid on a pipe, and stays.
 *
 * Source of the pipes and options: conmon(8) and https://github.com/containers/conmon, version 2.1.
 */
import type { RunId } from "../../schema/ids.ts"
import { startDaemon } from "./exec.ts"
import type { StartedDaemon } from "./exec.ts"
import { runtimeRootOf } from "./paths.ts"
import type { HostPaths, RunPaths } from "./paths.ts"
import { RUNTIMES } from "./runtimes.ts"
import type { RuntimeName } from "./runtimes.ts"
import type { ToolPaths } from "./tools.ts"

export interface CreateInput {
  readonly runId: RunId
  readonly host: HostPaths
  readonly paths: RunPaths
  readonly tools: ToolPaths
  readonly runtime: RuntimeName
  readonly tty: boolean
}

/** The argv of conmon. Every word is ours: a tenant's text is in `config.json` alone. */
export function conmonArgs(input: CreateInput): string[] {
  const { paths, host, tools, runId } = input
  return [
    "--api-version", "1",
    "--cid", runId, "--cuuid", runId, "--name", runId,
    "--runtime", tools[input.runtime],
    ...runtimeOptions(input.runtime, host).flatMap((word) => ["--runtime-arg", word]),
    "--bundle", paths.bundle,
    "--container-pidfile", paths.pidFile,
    "--conmon-pidfile", paths.monitorPidFile,
    "--exit-dir", host.exitsDir,
    "--socket-dir-path", host.socketsDir,
    "--log-path", `k8s-file:${paths.log}`,
    "--log-level", "error",
    // One session keyring for each container would use up the kernel's quota of keys (200 for a uid).
    ...(RUNTIMES[input.runtime].keyringOption ? ["--no-new-keyring"] : []),
    // At a container's end conmon would call syncfs() for its log, which stalls every other writer of the file system.
    "--no-sync-log",
    ...(input.tty ? ["--terminal"] : []),
  ] // prettier-ignore
}

/** What stands before the verb in every call of the runtime. */
export function runtimeOptions(runtime: RuntimeName, host: HostPaths): string[] {
  return [...RUNTIMES[runtime].options, `--root=${runtimeRootOf(host, runtime)}`]
}

export type Created =
  | { readonly ok: true; readonly pid: number }
  /** What the runtime said, not yet fit for a tenant. */
  | { readonly ok: false; readonly message: string }

/**
 * Starts conmon and waits for the container to be created (its process waits for `start`). conmon runs in a session of its
 * own: neither the bridge's end nor its terminal's ends it. `inside` does what it is given in the mount namespace.
 */
export async function createUnderConmon(
  input: CreateInput,
  inside: (start: () => StartedDaemon) => StartedDaemon,
  timeoutMs: number,
): Promise<Created> {
  const options = { cwd: input.paths.bundle, env: { _OCI_SYNCPIPE: "3" } }
  const { sync, stderr } = inside(() => startDaemon(input.tools.conmon, conmonArgs(input), options))
  const { promise, resolve } = Promise.withResolvers<Created>()
  const timer = setTimeout(() => resolve({ ok: false, message: `create did not end within ${timeoutMs} ms` }), timeoutMs)
  let text = ""
  sync.on("data", (chunk: Buffer) => {
    text += chunk.toString("utf8")
    const said = readSyncMessage(text)
    if (said !== null) resolve(said)
  })
  sync.on("error", () => {})
  sync.on("close", () => resolve({ ok: false, message: stderr().trim() || "conmon ended without a word" }))
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    sync.destroy()
  }
}

/** conmon's answer: one line of JSON; `data` is the pid, or negative with the runtime's own words in `message`. */
export function readSyncMessage(text: string): Created | null {
  const line = text.split("\n", 1)[0] ?? ""
  if (!text.includes("\n") && !line.endsWith("}")) return null
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    return text.includes("\n") ? { ok: false, message: line } : null
  }
  if (typeof parsed !== "object" || parsed === null) return { ok: false, message: line }
  const pid = "data" in parsed ? parsed.data : "pid" in parsed ? parsed.pid : undefined
  if (typeof pid === "number" && pid > 0) return { ok: true, pid }
  return { ok: false, message: "message" in parsed && typeof parsed.message === "string" ? parsed.message : line }
}
