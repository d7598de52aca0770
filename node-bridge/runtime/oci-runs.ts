/**
 * The controller that runs real containers: images, ids, mounts and networks composed with conmon and an OCI runtime.
 *
 * What is true of a run is read from the host each time (its records, its processes, its exit file); memory holds only what
 * a process cannot leave behind: descriptors of prepared runs. So a bridge that starts on the state of a dead one knows as
 * much as the dead one did.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import type { Network, Profile, SignalName } from "../../schema/container.ts"
import { SIGNALS } from "../../schema/container.ts"
import { isId } from "../../schema/ids.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Isolation } from "../../schema/isolation.ts"
import type { Device, ProfileOffer } from "../../schema/node.ts"
import type { Assignment, Condition, LogEntry, LogOptions } from "../../schema/protocol.ts"
import { NamespaceCensus } from "../isolation/census.ts"
import { findDeviations, readIsolation } from "../isolation/read-out.ts"
import type { LookInput } from "../isolation/read-out.ts"
import { IsolationWatch } from "../isolation/watch.ts"
import type { IsolationWatchOptions } from "../isolation/watch.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import type { DiskWatch } from "../disk/watch.ts"
import { runHooks } from "../device/hooks.ts"
import type { DeviceRegistry } from "../device/registry.ts"
import type { CreateNamespaces } from "../mount/create-namespaces.ts"
import { createUnderConmon } from "./conmon.ts"
import { ControllerError } from "./controller.ts"
import type { Controller, HostListener, Inspection, Outcome, Prepared, Started } from "./controller.ts"
import type { Happenings } from "./happenings.ts"
import { disksUnder } from "./disk-io.ts"
import { readRecord, writeRecord } from "./host-record.ts"
import type { HostRecord } from "./host-record.ts"
import { rotateLog } from "./log-files.ts"
import { letGoOn, LogPace } from "./log-pace.ts"
import { readLog } from "./log-reader.ts"
import { explainStartFailure } from "./messages.ts"
import { RunObserver } from "./observer.ts"
import type { MigrationLock } from "./migration-lock.ts"
import { runPaths } from "./paths.ts"
import type { HostPaths, RunPaths } from "./paths.ts"
import { prepareRun, refuseNetwork } from "./preparation.ts"
import type { StoredImage } from "./ports.ts"
import type { ImageSource, Parts, PreparedRun, PrepareHost } from "./preparation.ts"
import { identify, isAlive, sendSignal } from "./process-identity.ts"
import type { ProcessIdentity } from "./process-identity.ts"
import { RUNTIMES } from "./runtimes.ts"
import type { RuntimeName } from "./runtimes.ts"
import type { SeccompFilters } from "./seccomp-filters.ts"
import { Stopwatch } from "./stopwatch.ts"
import { endProcesses, removeLeftovers, removeRuntimeDirectory, removeTrees } from "./teardown.ts"
import type { TeardownTools } from "./teardown.ts"

/** Where this program lies: our own scripts and helpers may be named in what a runtime says. */
const INSTALL_DIR = join(import.meta.dirname, "../..")
/** A create takes some 30 ms; a host out of memory may take seconds. Past this it is taken down and may be tried again. */
const CREATE_TIMEOUT_MS = 30_000
/** Rotation looks at every live run's log this often: at the monitor's capped speed a file grows by some 10 MiB meanwhile. */
const ROTATE_EVERY_MS = 1_000
/** As the protocol bounds a reason. */
const MAX_REASON_CHARS = 2_048

const notRunning = () => new ControllerError("not_running", "The container is not running.")

/** A runtime as this bridge uses it, for one profile. */
export interface Runtime {
  readonly name: RuntimeName
  readonly creation: CreateNamespaces
  /** The filters that it takes ready-made; null: it brings or compiles its own. */
  readonly filters: SeccompFilters | null
}

export interface OciHost extends Omit<PrepareHost, keyof Runtime | "runtime">, TeardownTools {
  /** Those whose self-test is to come, too. */
  readonly runtimes: ReadonlyMap<Profile, Runtime>
  readonly parts: Parts
  readonly host: HostPaths
  readonly migrations: MigrationLock
  readonly happenings: Happenings
  readonly diskWatch: DiskWatch
  readonly devices: DeviceRegistry
  readonly log: Log
  readonly versions: Readonly<Record<string, string>>
  readonly isolationWatch?: Pick<IsolationWatchOptions, "everyMs" | "firstLookMs">
}

export class OciController implements Controller {
  profiles: readonly ProfileOffer[] = []
  readonly maxOpenFiles: number
  readonly versions: Readonly<Record<string, string>>
  readonly #on: OciHost
  readonly #prepared = new Map<RunId, PreparedRun>()
  readonly #observer: RunObserver
  readonly #rotation: NodeJS.Timeout
  readonly #census = new NamespaceCensus()
  readonly #watch: IsolationWatch
  readonly #logPace: LogPace
  readonly #closeParts: () => Promise<void>

  constructor(host: OciHost, closeParts: () => Promise<void>) {
    this.#on = host
    this.versions = host.versions
    this.maxOpenFiles = host.maxOpenFiles
    this.#closeParts = closeParts
    this.#observer = new RunObserver(host, (runId) => this.#prepared.has(runId))
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

  get devices(): readonly Device[] {
    return this.#on.devices.devices
  }
  get condition(): Condition {
    return this.#on.happenings.condition
  }

  listen(listener: HostListener): () => void {
    return this.#on.happenings.listen(listener)
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

  /** Takes over what still runs: its tenant's namespace, its network and its image are in use. Called once, before any verb. */
  async recover(): Promise<void> {
    const live: (HostRecord & { init: ProcessIdentity })[] = []
    for (const runId of await this.list()) {
      const record = readRecord(this.#paths(runId).record)
      if (record?.boot_id !== this.#on.bootId) continue
      if (record.monitor) letGoOn(record.monitor) // first of all: what has ended is told by a monitor that runs
      if (record.init && isAlive(record.init)) {
        live.push({ ...record, init: record.init })
        this.#on.parts.images.retain(record.image_digest, runId)
        this.#watchRun(runId, record)
        this.#on.devices.adopt(runId, record.devices)
      }
    }
    const ofTenants = live.filter(({ runtime }) => RUNTIMES[runtime].userNamespace === "tenant")
    await this.#on.parts.namespaces.adopt(ofTenants.map(({ tenant_id, init }) => ({ tenantId: tenant_id, init })))
    await this.#on.parts.disks.recover(live.map(({ run_id }) => run_id))
    await this.#on.parts.network.recover(
      live.map(({ run_id, tenant_id, network, names, address, init }) => ({
        runId: run_id,
        tenantId: tenant_id,
        network,
        names,
        address,
        pid: init.pid,
      })),
    )
  }

  prepare(run: Assignment, signal: AbortSignal): Promise<Prepared> {
    const { image, image_digest } = run.spec
    return this.#prepare(run, (aborted) => this.#on.parts.images.ensure(image, image_digest, aborted), signal)
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
    try {
      const created = await watch.time("create", () => this.#create(runId, paths, prepared))
      await watch.time("start", async () => {
        const said = await this.#on.clis[created.runtime].start(runId)
        if (said !== null) throw this.#startError(said, prepared)
      })
      const started_at_ms = Date.now()
      writeRecord(paths.record, { ...created, started_at_ms })
      this.#watchRun(runId, created)
      return { started_at_ms, timings: watch.timings }
    } catch (error) {
      throw this.#asControllerError(error, "start_failed", "The host could not start the container.")
    } finally {
      letGo()
      this.#prepared.delete(runId) // started, or to be prepared anew
      letGoOfRoot(prepared) // the container's own mounts hold on
    }
  }

  #watchRun(runId: RunId, { init, monitor, limits }: HostRecord): void {
    this.#watch.add(runId)
    if (init !== null) this.#on.diskWatch.add(runId, init)
    if (init !== null && monitor !== null) {
      this.#logPace.add(runId, { init, monitor, bytesPerSecond: limits.log_bytes_per_second })
    }
  }

  /** Leaves a created process that waits for the runtime's `start`, with its monitor, both on record. */
  async #create(runId: RunId, paths: RunPaths, prepared: PreparedRun): Promise<HostRecord> {
    const { host, tools, cgroups } = this.#on
    const { name: runtime, creation } = this.#runtimeOf(prepared.record.profile)
    const { lower, disk, netns, devices, tty } = prepared
    const layout = { ...paths, lower: lower.path, dir: disk.path, netns, devices }
    const input = { runId, host, paths, tools, runtime, tty }
    const created = await createUnderConmon(input, (start) => creation.within(layout, start), CREATE_TIMEOUT_MS)
    if (!created.ok) throw this.#startError(created.message, prepared)
    const monitorPid = Number(readFileSync(paths.monitorPidFile, "latin1"))
    const record = { ...prepared.record, init: identify(created.pid), monitor: identify(monitorPid) }
    writeRecord(paths.record, record)
    cgroups.capMonitor(runId, monitorPid)
    // The kernel charges the disk that an image file is on to whoever wrote to the loop device.
    const { io } = record.limits
    if (Object.keys(io).length > 0) cgroups.limitIo(runId, io, disksUnder([host.stateDir, lower.path]))
    await runHooks(prepared.hooks, { runId, pid: created.pid, dir: paths.dir, log: this.#on.log })
    return record
  }

  #startError(said: string, { command, workdir }: PreparedRun): ControllerError {
    const { host, log } = this.#on
    log.warn("the runtime refused a container", { said })
    const hostDirs = [host.stateDir, host.runtimeDir, INSTALL_DIR]
    const { reason, exitCode, retryable } = explainStartFailure(said, { command, workdir, hostDirs })
    return new ControllerError(reason.code, reason.message, { exitCode, retryable })
  }

  inspect(runId: RunId): Promise<Inspection> {
    return this.#observer.inspect(runId)
  }

  wait(runId: RunId, signal: AbortSignal): Promise<Outcome> {
    return this.#observer.wait(runId, signal)
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

  async release(runId: RunId): Promise<void> {
    const paths = this.#paths(runId)
    this.#watch.remove(runId)
    this.#logPace.remove(runId)
    this.#census.forget(runId)
    this.#on.diskWatch.remove(runId)
    const prepared = this.#prepared.get(runId)
    if (prepared !== undefined) letGoOfRoot(prepared)
    this.#prepared.delete(runId)
    if (this.#isThere(runId)) {
      await this.inspect(runId) // puts the outcome on record while the cgroup can be asked
      const record = readRecord(paths.record)
      const sameBoot = record?.boot_id === this.#on.bootId
      await endProcesses(this.#on, runId, sameBoot ? (record?.monitor ?? null) : null, record?.init != null)
      if (record !== null) await this.inspect(runId) // and of one that was just killed
      await removeLeftovers(this.#on, runId, paths)
    }
    await this.#on.parts.disks.release(runId)
    await this.#on.parts.network.release(runId)
    this.#on.devices.release(runId)
    this.#on.parts.images.release(runId)
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
    return readIsolation({ ...this.#lookAt(runId), paused: seen.paused, network })
  }

  #lookAt(runId: RunId): LookInput {
    const record = readRecord(this.#paths(runId).record)
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

  #rotateLogs(): void {
    for (const name of readdirSync(this.#on.host.runsDir)) {
      // A stopped monitor is asked when it goes on: asked more than once, it could do it twice and lose what lies between.
      if (isId("run", name) && !this.#logPace.waits(name)) this.#rotateLog(name)
    }
  }

  #rotateLog(runId: RunId): void {
    try {
      rotateLog(this.#paths(runId))
    } catch (error) {
      this.#on.log.warn("a log could not be rotated", { run: runId, error: explain(error) })
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#rotation)
    this.#watch.close()
    this.#logPace.close()
    this.#observer.close()
    this.#on.diskWatch.close()
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
