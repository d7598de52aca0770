/**
 * Runs the programs that a device's description wants run, of those that the operator allows, once the container is made and
 * before its process starts. They run as root on the host, so nothing of the container reaches them: their environment is
 * the description's and a fixed PATH, never the image's (CVE-2025-23266 was an `LD_PRELOAD` of an image), and they start in
 * `/`. On standard input they read the state, as the runtime specification has it; its bundle names the container's root as
 * `/proc/PID/root`, where the container's own mounts are seen. Links in there are the image's: a program that follows them
 * as the host's is not one to allow, and nothing of ours could keep it from that.
 */
import { mkdirSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Log } from "../log.ts"
import { ControllerError } from "../runtime/controller.ts"
import { exec, TOOL_ENV } from "../runtime/exec.ts"
import type { PlannedHook } from "./plan.ts"

export interface HookRun {
  readonly runId: string
  readonly pid: number
  /** A directory of ours to put the hooks' bundle in; it goes with the run. */
  readonly dir: string
  readonly log: Log
}

/** Throws `ControllerError` at the first that fails. */
export async function runHooks(hooks: readonly PlannedHook[], { runId, pid, dir, log }: HookRun): Promise<void> {
  if (hooks.length === 0) return
  const bundle = join(dir, "hooks")
  mkdirSync(bundle, { recursive: true, mode: 0o700 })
  writeFileSync(join(bundle, "config.json"), JSON.stringify({ ociVersion: "1.0.2", root: { path: `/proc/${pid}/root` } }))
  const state = JSON.stringify({ ociVersion: "1.0.2", id: runId, status: "created", pid, bundle })
  const failed = (path: string, why: string) => {
    log.error("a device's hook failed", { run: runId, hook: path, why })
    // What it says may tell of the host: the tenant reads only that it failed.
    return new ControllerError("device_hook_failed", "The host could not set the container's devices up.")
  }
  for (const { path, args, env, timeoutSeconds } of hooks) {
    const { uid, mode } = statSync(path)
    if (uid !== 0 || (mode & 0o022) !== 0) throw failed(path, "it must be root's, and writable by root alone")
    // The first argument is the program's name, as in execv.
    const { code, stderr } = await exec(path, args.slice(1), {
      timeoutMs: timeoutSeconds * 1000,
      input: state,
      cwd: "/",
      env: { ...TOOL_ENV, ...Object.fromEntries(env.map(pair)) },
    }).catch((error: unknown) => {
      throw failed(path, String(error))
    })
    if (code !== 0) throw failed(path, `it ended with ${code ?? "a signal"} ${stderr.trim()}`)
  }
}

const pair = (text: string): [string, string] => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)]
