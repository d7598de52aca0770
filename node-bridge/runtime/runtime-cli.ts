/** The runtime's verbs, each one process. `create` is not among them: conmon calls that one. */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs"
import { join } from "node:path"
import type { RunId } from "../../schema/ids.ts"
import { runtimeOptions } from "./conmon.ts"
import { exec } from "./exec.ts"
import { runtimeRootOf } from "./paths.ts"
import type { HostPaths } from "./paths.ts"
import { RUNTIMES } from "./runtimes.ts"
import type { RuntimeName } from "./runtimes.ts"
import type { ToolPaths } from "./tools.ts"

const START_TIMEOUT_MS = 20_000
const DELETE_TIMEOUT_MS = 20_000

export type RuntimeClis = Readonly<Record<RuntimeName, RuntimeCli>>

export class RuntimeCli {
  readonly name: RuntimeName
  readonly #host: HostPaths
  readonly #tools: ToolPaths

  constructor(name: RuntimeName, host: HostPaths, tools: ToolPaths) {
    this.name = name
    this.#host = host
    this.#tools = tools
  }

  #call(args: readonly string[], timeoutMs: number) {
    return exec(this.#tools[this.name], [...runtimeOptions(this.name, this.#host), ...args], { timeoutMs })
  }

  #inRoot(name: string): string {
    return join(runtimeRootOf(this.#host, this.name), name)
  }

  /** Lets a created container's process go. Returns the runtime's own words when it could not, else null. */
  async start(runId: RunId): Promise<string | null> {
    if (this.name === "crun" && letGo(this.#fifo(runId))) return null
    // Whoever finds this beside a container that still waits cannot tell whether a start is on its way.
    if (RUNTIMES[this.name].startedSign === "state") writeFileSync(this.#mark(runId), "")
    const { code, stderr, stdout } = await this.#call(["start", runId], START_TIMEOUT_MS)
    return code === 0 ? null : stderr.trim() || stdout.trim() || `start ended with ${code ?? "a signal"}`
  }

  #fifo(runId: RunId): string {
    return this.#inRoot(`${runId}/exec.fifo`)
  }

  #mark(runId: RunId): string {
    return this.#inRoot(`${runId}.going`)
  }

  /** All that the runtime keeps of a container: crun and runc a directory, runsc two files. */
  #state(runId: RunId): string[] {
    switch (RUNTIMES[this.name].startedSign) {
      case "fifo":
        return [this.#inRoot(runId)]
      case "state":
        return ["state", "lock"].map((ending) => this.#inRoot(`${runId}_sandbox:${runId}.${ending}`))
    }
  }

  /**
   * Whether a container that was created has been let go. A start that was cut off in the middle is brought to its end first,
   * for nobody can say whether the process is on its way.
   */
  async wasStarted(runId: RunId): Promise<boolean> {
    switch (RUNTIMES[this.name].startedSign) {
      case "fifo": // both runtimes delete the pipe that the process waits on
        finishLetGo(this.#fifo(runId))
        return this.knows(runId) && !existsSync(this.#fifo(runId))
      case "state":
        if (!this.knows(runId)) return false
        if (!this.#waits(runId)) return true
        if (!existsSync(this.#mark(runId))) return false
        await this.#call(["start", runId], START_TIMEOUT_MS) // the runtime's own lock lets one of two go through
        return true
    }
  }

  /** runsc writes the state whole, and says `created` until the process has gone. */
  #waits(runId: RunId): boolean {
    try {
      const state = JSON.parse(readFileSync(this.#state(runId)[0] ?? "", "utf8")) as { status?: unknown }
      return state.status === "creating" || state.status === "created"
    } catch {
      return true // there is none yet
    }
  }

  /** Whether anything of the container is in the runtime's state. */
  knows(runId: RunId): boolean {
    return this.#state(runId).some((path) => existsSync(path))
  }

  /** Kills the container if it lives, and forgets it. One that is not known is success. */
  async delete(runId: RunId): Promise<void> {
    if (this.knows(runId)) {
      const { code, stderr } = await this.#call(["delete", "--force", runId], DELETE_TIMEOUT_MS)
      // Of a create that failed runsc leaves its lock, and says then that there is no such container.
      if (RUNTIMES[this.name].startedSign === "state") for (const path of this.#state(runId)) rmSync(path, { force: true })
      else if (code !== 0 && this.knows(runId)) throw new Error(`${this.name} delete: ${stderr.trim()}`)
    }
    rmSync(this.#mark(runId), { force: true })
  }
}

/**
 * All that `crun start` does without hooks, of which we write none: a byte into the pipe that the created process reads, and
 * the pipe deleted. In-process it saves a fifth of a start. False when nobody reads the pipe yet: crun then waits for it.
 * The self-test sees to it that a process really went, so that a crun with another way of starting is noticed.
 *
 * Under its own name the pipe says that nothing ran: it is renamed before the byte, so that whoever finds it after a crash
 * starts no process a second time.
 */
function letGo(fifo: string): boolean {
  const fd = openWaiting(fifo)
  if (fd === null) return false
  try {
    renameSync(fifo, going(fifo))
    writeSync(fd, "\0")
    unlinkSync(going(fifo))
    return true
  } finally {
    closeSync(fd)
  }
}

const going = (fifo: string) => `${fifo}.going`

/**
 * Without a reader the process has gone on, or has died: both is an end of waiting. It may come to that while we look, for a
 * bridge that dies with the pipe open lets the process go as well.
 */
function finishLetGo(fifo: string): void {
  if (!existsSync(going(fifo))) return
  const fd = openWaiting(going(fifo))
  try {
    if (fd !== null) writeSync(fd, "\0")
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EPIPE")) throw error
  } finally {
    if (fd !== null) closeSync(fd)
  }
  unlinkSync(going(fifo))
}

/** The pipe's writing end; null when nobody reads it. */
function openWaiting(fifo: string): number | null {
  try {
    return openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch {
    return null
  }
}
