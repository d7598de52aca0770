/**
 * Holds the monitors of live runs to the rate at which a run may log. conmon has no such limit of its own, and the kernel's
 * limits on a disk do not hold for what is written into the page cache. So a monitor that wrote too much is stopped for a
 * while: the pipe to it fills, the container's writes wait, and nothing is lost. In between its cgroup's processor limit bounds
 * what it can write.
 *
 * A stopped monitor neither sees its container's end nor reopens its log: it goes on as soon as the container has ended, the
 * run is taken down or this bridge closes. One that a killed bridge left stopped is continued by the next when it takes over;
 * until then the container's writers wait.
 */
import { readFileSync } from "node:fs"
import { constants } from "node:os"
import type { RunId } from "../../schema/ids.ts"
import type { Notice } from "../../schema/protocol.ts"
import { budgetAt, fullBudget } from "./log-budget.ts"
import type { LogBudget } from "./log-budget.ts"
import { isAlive, sendSignal } from "./process-identity.ts"
import type { ProcessIdentity } from "./process-identity.ts"

const { SIGSTOP, SIGCONT } = constants.signals

export interface PacedRun {
  readonly init: ProcessIdentity
  readonly monitor: ProcessIdentity
  readonly bytesPerSecond: number
}

interface Paced extends PacedRun {
  budget: LogBudget
  timer: NodeJS.Timeout
}

export interface LogPaceOptions {
  readonly notice: (notice: Omit<Notice, "id">) => void
  /** Called before a stopped monitor goes on: what is asked of it now it does before it writes again. */
  readonly beforeGo: (runId: RunId) => void
}

/** Lets a monitor go on that a bridge before us may have stopped. */
export const letGoOn = (monitor: ProcessIdentity): boolean => sendSignal(monitor, SIGCONT)

export class LogPace {
  readonly #options: LogPaceOptions
  readonly #runs = new Map<RunId, Paced>()
  readonly #wrote = new Set<RunId>()

  constructor(options: LogPaceOptions) {
    this.#options = options
  }

  add(runId: RunId, run: PacedRun): void {
    this.remove(runId)
    const written = writtenBy(run.monitor.pid)
    if (written === null) return // its monitor has ended
    const budget = fullBudget(run.bytesPerSecond, written, performance.now())
    this.#runs.set(runId, { ...run, budget, timer: this.#lookIn(runId, budget.lookMs) })
    this.#wrote.add(runId) // before we looked
  }

  /** Runs whose monitor was seen to write, or to be gone, since this was last asked; not those whose monitor is stopped now. */
  takeWriters(): RunId[] {
    const writers = [...this.#wrote].filter((runId) => !this.#runs.get(runId)?.budget.waits)
    this.#wrote.clear()
    return writers
  }

  remove(runId: RunId): void {
    const run = this.#runs.get(runId)
    if (run === undefined) return
    clearTimeout(run.timer)
    this.#runs.delete(runId)
    if (run.budget.waits) letGoOn(run.monitor)
  }

  close(): void {
    for (const runId of this.#runs.keys()) this.remove(runId)
  }

  #lookIn(runId: RunId, ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#look(runId), ms).unref()
  }

  #look(runId: RunId): void {
    const run = this.#runs.get(runId)
    if (run === undefined) return
    const written = writtenBy(run.monitor.pid)
    if (written !== run.budget.written) this.#wrote.add(runId)
    if (written === null || (run.budget.waits && !isAlive(run.init))) return this.remove(runId)
    const waited = run.budget.waits
    const { budget, news } = budgetAt(run.budget, run.bytesPerSecond, written, performance.now())
    if (waited && !budget.waits) this.#options.beforeGo(runId)
    run.budget = budget
    if (budget.waits !== waited && !sendSignal(run.monitor, budget.waits ? SIGSTOP : SIGCONT)) return this.remove(runId)
    run.timer = this.#lookIn(runId, budget.lookMs)
    if (news) this.#tell(runId, run.bytesPerSecond)
  }

  #tell(runId: RunId, rate: number): void {
    const message = `The container logs faster than its ${rate} bytes a second: its writers are made to wait, and nothing is lost.`
    this.#options.notice({
      run_id: runId,
      kind: "logs_throttled",
      at_ms: Date.now(),
      reason: { code: "logs_throttled", message },
    })
  }
}

/** Bytes that a process passed to write(2) in its life, from proc_pid_io(5); null once it is gone. */
function writtenBy(pid: number): number | null {
  try {
    const wchar = /^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]
    return wchar === undefined ? null : Number(wchar)
  } catch {
    return null
  }
}
