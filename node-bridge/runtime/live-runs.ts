/**
 * What goes on beside every live run: looks at its isolation and at its disk, its log's pace and length. A run is added once
 * its process was let go or was taken over, and removed before it is taken down. All of it is in memory: the next bridge
 * begins anew with what is live then.
 */
import type { RunId } from "../../schema/ids.ts"
import type { Isolation } from "../../schema/isolation.ts"
import type { DiskWatch } from "../disk/watch.ts"
import { NamespaceCensus } from "../isolation/census.ts"
import { findDeviations, readIsolation } from "../isolation/read-out.ts"
import type { LookInput, ReadOutInput } from "../isolation/read-out.ts"
import { IsolationWatch } from "../isolation/watch.ts"
import type { IsolationWatchOptions } from "../isolation/watch.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import type { Cgroups } from "./cgroups.ts"
import { notRunning } from "./controller.ts"
import type { Happenings } from "./happenings.ts"
import { readRecord } from "./host-record.ts"
import type { HostRecord } from "./host-record.ts"
import { rotateLog } from "./log-files.ts"
import { LogPace } from "./log-pace.ts"
import { runPaths } from "./paths.ts"
import type { HostPaths } from "./paths.ts"

/** Rotation looks this often at the logs that grew: at the monitor's capped speed a file grows by some 10 MiB meanwhile. */
const ROTATE_EVERY_MS = 1_000
/** As the protocol bounds a reason. */
const MAX_REASON_CHARS = 2_048

export interface LiveRunsHost {
  readonly host: HostPaths
  readonly cgroups: Cgroups
  readonly bootId: string
  readonly happenings: Happenings
  readonly diskWatch: DiskWatch
  readonly log: Log
  readonly versions: Readonly<Record<string, string>>
  readonly isolationWatch?: Pick<IsolationWatchOptions, "everyMs" | "firstLookMs">
}

export class LiveRuns {
  readonly #on: LiveRunsHost
  readonly #census = new NamespaceCensus()
  readonly #watch: IsolationWatch
  readonly #logPace: LogPace
  readonly #rotation: NodeJS.Timeout

  constructor(host: LiveRunsHost) {
    this.#on = host
    this.#rotation = setInterval(() => this.#rotateLogs(), ROTATE_EVERY_MS)
    this.#rotation.unref()
    this.#logPace = new LogPace({
      notice: (notice) => host.happenings.notice(notice),
      beforeGo: (runId) => this.#rotateLog(runId),
    })
    this.#watch = new IsolationWatch({
      look: (runId) => findDeviations(this.#lookAt(runId)),
      deviated: (runId, deviations) => this.#deviated(runId, deviations),
      log: host.log,
      ...host.isolationWatch,
    })
  }

  add(runId: RunId, { init, file_server, monitor, limits }: HostRecord): void {
    this.#watch.add(runId)
    if (init !== null) this.#on.diskWatch.add(runId, file_server ?? init)
    if (init !== null && monitor !== null) {
      this.#logPace.add(runId, { init, monitor, bytesPerSecond: limits.log_bytes_per_second })
    }
  }

  /** It is being taken down. */
  remove(runId: RunId): void {
    this.#watch.remove(runId)
    this.#logPace.remove(runId)
    this.#on.diskWatch.remove(runId)
  }

  /** No process of it is left. A look that was under way may have seen its namespaces until then. */
  forget(runId: RunId): void {
    this.#census.forget(runId)
  }

  /** Throws `ControllerError` when it has ended. */
  isolation(runId: RunId, more: Pick<ReadOutInput, "paused" | "network">): Promise<Isolation> {
    return readIsolation({ ...this.#lookAt(runId), ...more })
  }

  #lookAt(runId: RunId): LookInput {
    const record = readRecord(runPaths(this.#on.host, runId).record)
    if (record?.init == null || record.boot_id !== this.#on.bootId) throw notRunning()
    const { cgroups, versions } = this.#on
    return { record, init: record.init, cgroups, versions, census: this.#census }
  }

  #deviated(runId: RunId, deviations: readonly string[]): void {
    this.#on.log.error("a container is less confined than promised", { run: runId, deviations: deviations.join("; ") })
    const message = `The container is less confined than its profile promises: ${deviations.join("; ")}.`
    const reason = { code: "isolation_deviated", message: message.slice(0, MAX_REASON_CHARS) }
    this.#on.happenings.notice({ run_id: runId, kind: "isolation_deviated", at_ms: Date.now(), reason })
  }

  #rotateLogs(): void {
    // A stopped monitor is asked when it goes on: asked more than once, it could do it twice and lose what lies between.
    for (const runId of this.#logPace.takeWriters()) this.#rotateLog(runId)
  }

  #rotateLog(runId: RunId): void {
    try {
      rotateLog(runPaths(this.#on.host, runId))
    } catch (error) {
      this.#on.log.warn("a log could not be rotated", { run: runId, error: explain(error) })
    }
  }

  close(): void {
    clearInterval(this.#rotation)
    this.#watch.close()
    this.#logPace.close()
    this.#on.diskWatch.close()
  }
}
