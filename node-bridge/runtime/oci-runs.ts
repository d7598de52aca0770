/**
 * The controller that runs real containers: images, ids, mounts and networks composed with conmon and an OCI runtime.
 *
 * What is true of a run is read from the host each time (its records, its processes, its exit file); memory holds only what
 * a process cannot leave behind: descriptors of prepared runs. So a bridge that starts on the state of a dead one knows as
 * much as the dead one did.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs"
import type { Network, Profile, SignalName } from "../../schema/container.ts"
import { SIGNALS } from "../../schema/container.ts"
import { isId } from "../../schema/ids.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Isolation } from "../../schema/isolation.ts"
import type { Device, ProfileOffer } from "../../schema/node.ts"
import type { Assignment, Condition, LogEntry, LogOptions } from "../../schema/protocol.ts"
import { explain } from "../log.ts"
import type { CreateNamespaces } from "../mount/create-namespaces.ts"
import { ControllerError, notRunning } from "./controller.ts"
import type { Controller, HostListener, Inspection, Outcome, Prepared, Started } from "./controller.ts"
import { readRecord, writeRecord } from "./host-record.ts"
import type { HostRecord } from "./host-record.ts"
import { createContainer, startError } from "./create.ts"
import { LiveRuns } from "./live-runs.ts"
import type { LiveRunsHost } from "./live-runs.ts"
import { readLog } from "./log-reader.ts"
import { RunObserver } from "./observer.ts"
import type { LeaseGuard } from "./lease-guard.ts"
import type { MigrationLock } from "./migration-lock.ts"
import { runPaths } from "./paths.ts"
import type { RunPaths } from "./paths.ts"
import { prepareRun, refuseNetwork } from "./preparation.ts"
import type { RegistryLogins, StoredImage } from "./ports.ts"
import type { ImageSource, PreparedRun, PrepareHost } from "./preparation.ts"
import { sendSignal } from "./process-identity.ts"
import type { RuntimeName } from "./runtimes.ts"
import type { SeccompFilters } from "./seccomp-filters.ts"
import { Stopwatch } from "./stopwatch.ts"
import { takeOver } from "./take-over.ts"
import type { TakeOverHost } from "./take-over.ts"
import { endRun, removeLeftovers, removeRuntimeDirectory, removeTrees } from "./teardown.ts"
import type { TeardownTools } from "./teardown.ts"
import type { Wakefulness } from "./wakefulness.ts"

/** A runtime as this bridge uses it, for one profile. */
export interface Runtime {
  readonly name: RuntimeName
  readonly creation: CreateNamespaces
  /** The filters that it takes ready-made; null: it brings or compiles its own. */
  readonly filters: SeccompFilters | null
}

export interface OciHost extends Omit<PrepareHost, keyof Runtime | "runtime">, TeardownTools, LiveRunsHost, TakeOverHost {
  /** Those whose self-test is to come, too. */
  readonly runtimes: ReadonlyMap<Profile, Runtime>
  readonly migrations: MigrationLock
  readonly guard: LeaseGuard
  readonly wakefulness: Wakefulness
  readonly registryLogins: RegistryLogins
}

export class OciController implements Controller {
  profiles: readonly ProfileOffer[] = []
  readonly maxOpenFiles: number
  readonly versions: Readonly<Record<string, string>>
  readonly #on: OciHost
  readonly #prepared = new Map<RunId, PreparedRun>()
  readonly #observer: RunObserver
  readonly #live: LiveRuns
  readonly #closeParts: () => Promise<void>
  readonly #tryOut: () => Promise<void>

  constructor(host: OciHost, closeParts: () => Promise<void>, tryOut: () => Promise<void>) {
    this.#on = host
    this.versions = host.versions
    this.maxOpenFiles = host.maxOpenFiles
    this.#closeParts = closeParts
    this.#tryOut = tryOut
    this.#observer = new RunObserver(host, (runId) => this.#prepared.has(runId))
    this.#live = new LiveRuns(host)
  }

  get devices(): readonly Device[] {
    return this.#on.devices.devices
  }
  get condition(): Condition {
    return this.#on.happenings.condition
  }

  listen(listener: HostListener): () => void {
    return this.#on.happenings.listen(listener)
  }

  probe(): Promise<void> {
    return this.#tryOut()
  }

  #runtimeOf(profile: Profile): Runtime {
    const runtime = this.#on.runtimes.get(profile)
    if (runtime === undefined)
      throw new ControllerError("profile_unavailable", `This node does not offer the profile ${profile}.`)
    return runtime
  }

  #paths(runId: RunId): RunPaths {
    return runPaths(this.#on.host, runId)
  }

  /** Takes over what still runs. Called once, before any verb. */
  async recover(): Promise<void> {
    for (const record of await takeOver(this.#on, await this.list())) this.#live.add(record.run_id, record)
  }

  expect(): void {
    this.#on.wakefulness.stir()
    this.#on.migrations.keepFast()() // one move at the least
  }

  prepare(run: Assignment, signal: AbortSignal): Promise<Prepared> {
    const { image: reference, image_digest: digest, registry_credential } = run.spec
    return this.#prepare(
      run,
      async (aborted) => {
        const credentials = registry_credential === null ? null : await this.#on.registryLogins(run, aborted)
        return this.#on.parts.images.ensure({ reference, digest, tenantId: run.tenant_id, credentials }, aborted)
      },
      signal,
    )
  }

  /** `prepare` with an image that is in no store. */
  prepareImage(run: Assignment, image: StoredImage): Promise<Prepared> {
    return this.#prepare(run, () => Promise.resolve(image), new AbortController().signal)
  }

  async #prepare(run: Assignment, imageOf: ImageSource, signal: AbortSignal): Promise<Prepared> {
    const runId = run.run_id
    const paths = this.#paths(runId)
    const before = await this.inspect(runId)
    const known = readRecord(paths.record)
    if (before.kind !== "absent" && known !== null) return { image_digest: known.image_digest, timings: {} }
    if (this.#isThere(runId)) await this.release(runId) // what a bridge before us had begun
    rmSync(paths.exitFile, { force: true }) // of a process that was created, never let go, and ended by that release
    const watch = new Stopwatch()
    const letGo = this.#on.migrations.keepFast()
    try {
      mkdirSync(paths.dir, { recursive: true, mode: 0o700 })
      const { name: runtime, filters } = this.#runtimeOf(run.spec.profile)
      const prepared = await prepareRun(run, paths, { ...this.#on, runtime, filters }, this.#on.parts, watch, imageOf, signal)
      this.#prepared.set(runId, prepared)
      writeRecord(paths.record, prepared.record)
      return { image_digest: prepared.record.image_digest, timings: watch.timings }
    } catch (error) {
      throw this.#asControllerError(error, "prepare_failed", "The host could not prepare the container.", signal)
    } finally {
      letGo()
    }
  }

  async start(run: Assignment): Promise<Started> {
    const runId = run.run_id
    const paths = this.#paths(runId)
    const before = await this.inspect(runId)
    if (before.kind === "running") return { started_at_ms: before.started_at_ms, timings: {} }
    if (before.kind === "exited") return { started_at_ms: readRecord(paths.record)?.started_at_ms ?? Date.now(), timings: {} }
    // After a start that failed, or in another bridge than the one that prepared it.
    if (before.kind === "absent") await this.prepare(run, new AbortController().signal)
    const prepared = this.#prepared.get(runId)
    if (prepared === undefined) throw new ControllerError("not_prepared", "The container is not prepared on this host.")
    const watch = new Stopwatch()
    const letGo = this.#on.migrations.keepFast()
    this.#on.wakefulness.stir()
    try {
      const created = await watch.time("create", () =>
        createContainer(this.#on, this.#runtimeOf(prepared.record.profile), runId, paths, prepared),
      )
      await watch.time("start", async () => {
        if (run.spec.on_partition === "stop") this.#on.guard.add(runId)
        const said = await this.#on.clis[created.runtime].start(runId)
        if (said !== null) throw startError(this.#on, said, prepared)
      })
      const started_at_ms = Date.now()
      writeRecord(paths.record, { ...created, started_at_ms })
      this.#live.add(runId, created)
      return { started_at_ms, timings: watch.timings }
    } catch (error) {
      throw this.#asControllerError(error, "start_failed", "The host could not start the container.")
    } finally {
      letGo()
      this.#prepared.delete(runId) // started, or to be prepared anew
      letGoOfRoot(prepared) // the container's own mounts hold on
    }
  }

  inspect(runId: RunId): Promise<Inspection> {
    return this.#observer.inspect(runId)
  }

  async wait(runId: RunId, signal: AbortSignal): Promise<Outcome> {
    const outcome = await this.#observer.wait(runId, signal)
    this.#on.parts.processors.release(runId) // what has ended stays for its logs, and takes no processor's time
    return outcome
  }

  async signal(runId: RunId, signal: SignalName): Promise<void> {
    const record = readRecord(this.#paths(runId).record)
    if (!record?.init || record.boot_id !== this.#on.bootId) return
    sendSignal(record.init, SIGNALS[signal])
    // A frozen process takes a signal only once it goes on; a kill should not wait for that.
    if (signal === "SIGKILL" && this.#on.cgroups.isFrozen(runId)) await this.#on.cgroups.freeze(runId, false)
  }

  pause(runId: RunId): Promise<void> {
    return this.#freeze(runId, true)
  }

  unpause(runId: RunId): Promise<void> {
    return this.#freeze(runId, false)
  }

  async #freeze(runId: RunId, frozen: boolean): Promise<void> {
    const seen = await this.inspect(runId)
    if (seen.kind !== "running") throw notRunning()
    if (seen.paused === frozen) return
    try {
      await this.#on.cgroups.freeze(runId, frozen)
    } catch (error) {
      throw new ControllerError("pause_failed", "The host could not pause or continue the container.", {
        retryable: true,
        cause: error,
      })
    }
  }

  /** On record first: a bridge that takes the run over from a dead one builds its rules from there. */
  async setNetwork(runId: RunId, network: Network): Promise<void> {
    const record = readRecord(this.#paths(runId).record)
    if (record === null) return
    refuseNetwork(record.runtime, { ...record, network })
    this.#rewriteRecord(runId, { network })
    try {
      const address = await this.#on.parts.network.setLimits(runId, network)
      if (address !== record.address) this.#rewriteRecord(runId, { address })
    } catch (error) {
      throw this.#asControllerError(error, "network_failed", "The host could not change the container's network.")
    }
  }

  #rewriteRecord(runId: RunId, change: Partial<Pick<HostRecord, "network" | "address">>): void {
    const { record: file } = this.#paths(runId)
    const prepared = this.#prepared.get(runId)
    if (prepared) this.#prepared.set(runId, { ...prepared, record: { ...prepared.record, ...change } })
    const record = readRecord(file)
    if (record !== null) writeRecord(file, { ...record, ...change })
  }

  // oxlint-disable-next-line require-await -- the seam is asynchronous; the answer is in a file
  async stopSignal(runId: RunId): Promise<SignalName | null> {
    return readRecord(this.#paths(runId).record)?.stop_signal ?? null
  }

  /** What a run has stays its own while a process of it lives; after that nothing of it waits for another part. */
  async release(runId: RunId): Promise<void> {
    const paths = this.#paths(runId)
    this.#live.remove(runId)
    const prepared = this.#prepared.get(runId)
    if (prepared !== undefined) letGoOfRoot(prepared)
    this.#prepared.delete(runId)
    const isThere = this.#isThere(runId)
    if (isThere) await endRun(this.#on, runId, paths, () => this.inspect(runId))
    this.#on.guard.remove(runId)
    this.#live.forget(runId)
    const { disks, identities, network, processors, images } = this.#on.parts
    this.#on.devices.release(runId)
    identities.close(runId)
    processors.release(runId)
    images.release(runId)
    const parts = [isThere ? removeLeftovers(this.#on, runId, paths) : null, disks.release(runId), network.release(runId)]
    const failed = (await Promise.allSettled(parts)).flatMap((part) =>
      part.status === "rejected" ? [part.reason as unknown] : [],
    )
    if (failed.length > 0) throw new Error(failed.map(explain).join("; "), { cause: failed[0] })
  }

  async remove(runId: RunId): Promise<void> {
    await this.release(runId)
    const paths = this.#paths(runId)
    rmSync(paths.exitFile, { force: true })
    await removeTrees(this.#on.tools, [paths.dir])
  }

  #isThere(runId: RunId): boolean {
    return existsSync(this.#paths(runId).dir)
  }

  // oxlint-disable-next-line require-await -- the seam is asynchronous
  async list(): Promise<RunId[]> {
    return readdirSync(this.#on.host.runsDir).filter((name): name is RunId => isId("run", name))
  }

  logs(runId: RunId, options: LogOptions, signal: AbortSignal): AsyncIterable<LogEntry> {
    return readLog({ runId, logsDir: this.#paths(runId).logs, ended: () => this.#observer.logEnded(runId) }, options, signal)
  }

  async isolation(runId: RunId): Promise<Isolation> {
    const seen = await this.inspect(runId)
    if (seen.kind !== "running") throw notRunning()
    const network = await this.#on.parts.network.describe(runId)
    return this.#live.isolation(runId, { paused: seen.paused, network })
  }

  async maintain(liveImages: ReadonlySet<string>): Promise<void> {
    for (const work of [
      () => this.#on.parts.images.collect(liveImages),
      () => this.#on.parts.network.refill(),
      () => this.#on.parts.disks.refill(),
    ]) {
      try {
        await work()
      } catch (error) {
        this.#on.log.warn("maintenance failed", { error: explain(error) })
      }
    }
  }

  async close(): Promise<void> {
    this.#live.close()
    this.#on.wakefulness.close()
    this.#observer.close()
    for (const prepared of this.#prepared.values()) letGoOfRoot(prepared)
    this.#prepared.clear()
    await this.#closeParts()
    removeRuntimeDirectory(this.#on.host) // once no run is live, the state directory is all that we have here
  }

  /** Anything that is no `ControllerError` is a fault of the host: said in general to the tenant, in full to the operator. */
  #asControllerError(error: unknown, code: string, message: string, signal?: AbortSignal): unknown {
    if (error instanceof ControllerError || (signal?.aborted && error === signal.reason)) return error
    this.#on.log.error(message, { error: explain(error) })
    return new ControllerError(code, message, { retryable: true, cause: error })
  }
}

function letGoOfRoot({ lower, disk }: PreparedRun): void {
  lower.release()
  disk.release()
}
