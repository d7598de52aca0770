/**
 * What is true of a run on this host: read from its records, its processes and its exit file each time it is asked. The first
 * look that finds a run ended writes its outcome down, while its cgroup can still be asked about memory.
 */
import { existsSync, readFileSync, statSync } from "node:fs"
import type { RunId } from "../../schema/ids.ts"
import type { Log } from "../log.ts"
import type { Cgroups } from "./cgroups.ts"
import { ControllerError } from "./controller.ts"
import type { Inspection, Outcome } from "./controller.ts"
import { EndWatch } from "./end-watch.ts"
import { readOutcome, readRecord, writeOutcome, writeRecord } from "./host-record.ts"
import type { HostRecord } from "./host-record.ts"
import { logTail } from "./log-reader.ts"
import { signalOf, standingOf, wasOomKilled } from "./outcome.ts"
import type { Standing } from "./outcome.ts"
import { runPaths } from "./paths.ts"
import type { HostPaths, RunPaths } from "./paths.ts"
import { isAlive, startedAtMs } from "./process-identity.ts"
import type { ProcessIdentity } from "./process-identity.ts"
import type { RuntimeClis } from "./runtime-cli.ts"

/** The last lines in an exit, as the protocol bounds them. */
const TAIL_LINES = 10
const TAIL_CHARS = 1024

export interface ObserverHost {
  readonly host: HostPaths
  readonly cgroups: Cgroups
  readonly clis: RuntimeClis
  readonly bootId: string
  readonly log: Log
}

export class RunObserver {
  readonly #on: ObserverHost
  readonly #isPrepared: (runId: RunId) => boolean
  readonly #ends: EndWatch

  constructor(on: ObserverHost, isPrepared: (runId: RunId) => boolean) {
    this.#on = on
    this.#isPrepared = isPrepared
    this.#ends = new EndWatch(on.host.exitsDir)
  }

  async inspect(runId: RunId): Promise<Inspection> {
    const paths = runPaths(this.#on.host, runId)
    const outcome = readOutcome(paths.outcome)
    if (outcome !== null) return { kind: "exited", outcome }
    let record = readRecord(paths.record)
    if (record === null) return { kind: "absent" }
    if (record.started_at_ms === null) {
      if (this.#isPrepared(runId)) return { kind: "prepared" }
      record = await this.#recordLateStart(record, paths)
    }
    const standing = this.#look(record, paths)
    switch (standing.kind) {
      case "not_started":
        return { kind: "absent" }
      case "running":
        return { kind: "running", paused: this.#on.cgroups.isFrozen(runId), started_at_ms: record.started_at_ms ?? 0 }
      case "unwatched":
        this.#on.log.warn("a container's monitor is gone: the container is killed", { run: runId })
        if (!(await this.#on.cgroups.kill(runId)))
          throw new ControllerError("host_busy", "The container does not end.", { retryable: true })
        return this.inspect(runId)
      case "ended":
        return { kind: "exited", outcome: this.#settle(record, paths, standing) }
    }
  }

  /** A bridge may have died between the runtime's `start` and its record of it: the runtime's state tells. */
  async #recordLateStart(record: HostRecord, paths: RunPaths): Promise<HostRecord> {
    if (record.init === null || record.boot_id !== this.#on.bootId) return record
    if (!(await this.#on.clis[record.runtime].wasStarted(record.run_id))) return record
    const late = { ...record, started_at_ms: isAlive(record.init) ? Math.round(startedAtMs(record.init)) : Date.now() }
    writeRecord(paths.record, late)
    return late
  }

  #look(record: HostRecord, paths: RunPaths): Standing {
    const sameBoot = record.boot_id === this.#on.bootId
    // The monitor before its exit file: it writes the file and then ends.
    const monitorAlive = sameBoot && record.monitor !== null && isAlive(record.monitor)
    return standingOf({
      sameBoot,
      started: record.started_at_ms !== null,
      initAlive: sameBoot && record.init !== null && isAlive(record.init),
      monitorAlive,
      exitFile: readExitFile(paths.exitFile),
    })
  }

  #settle(record: HostRecord, paths: RunPaths, ended: Extract<Standing, { kind: "ended" }>): Outcome {
    const outcome: Outcome = {
      exit: {
        code: ended.code,
        signal: signalOf(ended.code),
        oom_killed: wasOomKilled(ended.code, this.#on.cgroups.oomKills(record.run_id)),
        log_tail: logTail(paths.logs, TAIL_LINES, TAIL_CHARS),
      },
      finished_at_ms: Math.round(ended.finishedAtMs ?? Date.now()),
      host_fault: ended.fault,
    }
    writeOutcome(paths.outcome, outcome)
    return outcome
  }

  async wait(runId: RunId, signal: AbortSignal): Promise<Outcome> {
    const { record, exitFile } = runPaths(this.#on.host, runId)
    for (;;) {
      signal.throwIfAborted()
      let monitor: ProcessIdentity | null = null
      const hint = this.#ends.hint(runId, signal, () => monitor !== null && isAlive(monitor) && !existsSync(exitFile))
      const seen = await this.inspect(runId)
      if (seen.kind === "exited") return seen.outcome
      if (seen.kind === "absent") throw new ControllerError("not_found", "Nothing of the run is on this host.")
      monitor = readRecord(record)?.monitor ?? null
      await hint
    }
  }

  /** Whether no more output can come of a run. */
  logEnded(runId: RunId): boolean {
    if (this.#isPrepared(runId)) return false
    const record = readRecord(runPaths(this.#on.host, runId).record)
    return record === null || record.monitor === null || record.boot_id !== this.#on.bootId || !isAlive(record.monitor)
  }

  close(): void {
    this.#ends.close()
  }
}

function readExitFile(path: string): { text: string; mtimeMs: number } | null {
  try {
    return { text: readFileSync(path, "utf8"), mtimeMs: statSync(path).mtimeMs }
  } catch {
    return null
  }
}
