/** The node-bridge of this machine as a child process: started, started again when it dies, drained or ended with its parent. */
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { Fault } from "./faults.ts"

const MAIN = join(import.meta.dirname, "../node-bridge/main.ts")
const RESTART_MS = 1_000

export interface BridgeOptions {
  readonly state: string
  readonly url: string
  readonly images: string
  readonly runtime: "crun" | "runc"
  readonly joinTokenFile: string
  readonly extraArgs?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Words before the command line that run it elsewhere, such as nsenter's: they must become the bridge, not start it. */
  readonly on?: readonly string[]
  readonly onLog?: (line: string) => void
}

export interface BridgeProcess {
  readonly pid: number | undefined
  /** Resolves at the bridge's first welcome; rejects with its last words when it gives up before that. */
  readonly ready: Promise<void>
  /** `drain`: stop the containers first. `leave`: end the bridge alone. */
  stop(how: "drain" | "leave"): Promise<void>
}

export function startBridge(options: BridgeOptions): BridgeProcess {
  let child: ChildProcess
  let stopping = false
  let settled = false
  const lastLines: string[] = []
  const ready = Promise.withResolvers<void>()
  ready.promise.catch(() => {})

  const launch = () => {
    const args = ["--state", options.state, "--url", options.url, "--images", options.images, "--runtime", options.runtime]
    // The bridge must not hear the terminal's Ctrl-C (its own session) nor outlive us (it would hold the state); containers do.
    const tied = ["setpriv", "--pdeathsig", "KILL", process.execPath, MAIN, ...args]
    const more = ["--join-token-file", options.joinTokenFile, ...(options.extraArgs ?? [])]
    const [program = "", ...words] = [...(options.on ?? []), ...tied, ...more]
    child = spawn(program, words, {
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      detached: true,
      env: { ...process.env, ...options.env },
    })
    if (child.stderr) {
      createInterface({ input: child.stderr }).on("line", (line) => {
        lastLines.push(line)
        if (lastLines.length > 5) lastLines.shift()
        options.onLog?.(line)
      })
    }
    child.on("message", (message) => {
      if (typeof message === "object" && message !== null && "type" in message && message.type === "ready") {
        settled = true
        ready.resolve()
      }
    })
    child.once("exit", (code, signal) => {
      if (stopping) return
      if (!settled) {
        ready.reject(new Fault(lastLines.at(-1) ?? `The node-bridge ended at once (${signal ?? `exit code ${code}`}).`))
        return
      }
      options.onLog?.(`the node-bridge ended (${signal ?? `exit code ${code}`}); starting it again`)
      setTimeout(() => !stopping && launch(), RESTART_MS)
    })
  }
  launch()

  return {
    get pid() {
      return child.pid
    },
    ready: ready.promise,
    stop: async (how) => {
      stopping = true
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = new Promise((resolve) => child.once("exit", resolve))
      child.kill(how === "drain" ? "SIGUSR2" : "SIGTERM")
      await ended
    },
  }
}
