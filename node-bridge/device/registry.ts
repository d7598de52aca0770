/**
 * The devices of this host: which there are, how they are, and which run has which. What is described and seen is looked at
 * again every few seconds and whenever a file changes; who has what is in the runs' own host records, so that the next
 * bridge knows it as well; what is to be scrubbed is the scrubber's file.
 */
import { join } from "node:path"
import { isDeepStrictEqual } from "node:util"
import type { RunId } from "../../schema/ids.ts"
import type { Device } from "../../schema/node.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { ControllerError } from "../runtime/controller.ts"
import { exec } from "../runtime/exec.ts"
import type { Happenings } from "../runtime/happenings.ts"
import { grantOf } from "./grant.ts"
import type { Grant } from "./grant.ts"
import { devicesOf, LOOKS_TO_LOSE, obstacle } from "./health.ts"
import type { DeviceState, Seen } from "./health.ts"
import { probeNode } from "./host-nodes.ts"
import { inventoryOf } from "./inventory.ts"
import type { DescribedDevice } from "./inventory.ts"
import { joinPlans } from "./plan.ts"
import { Scrubber } from "./scrubber.ts"
import { DEFAULT_CDI_DIRS, readSpecFiles, watchDirs } from "./spec-files.ts"

/** A look opens each device once: some 20 microseconds. */
const LOOK_EVERY_MS = 3_000
/** A file is often written in several steps. */
const SETTLE_MS = 50
const PROBE_EVERY_MS = 30_000
const PROBE_TIMEOUT_MS = 10_000
/** Longer than a stop and most scrubs; then the tenant reads why, and may be placed elsewhere. */
const WAIT_MS = 60_000

export interface DeviceOptions {
  /** The later directory wins. */
  readonly cdiDirs?: readonly string[]
  /** Programs that a description may have run. */
  readonly hooks?: readonly string[]
  /** Run with a device's name after each use; null or absent: none. */
  readonly scrub?: string | null
  /** Run with a device's name now and then; not ending with 0 says that it fails. */
  readonly probe?: string | null
  readonly lookEveryMs?: number
  readonly waitMs?: number
}

export class DeviceRegistry {
  readonly #options: DeviceOptions
  readonly #happenings: Pick<Happenings, "notice" | "facts">
  readonly #log: Log
  readonly #dirs: readonly string[]
  readonly #scrubber: Scrubber
  readonly #holders = new Map<string, RunId>()
  #described: ReadonlyMap<string, DescribedDevice> = new Map()
  #seen = new Map<string, Seen>()
  #signature: string | null = null
  readonly #probed = new Map<string, { readonly atMs: number; readonly failed: string | null }>()
  readonly #told = new Set<string>()
  #devices: readonly Device[] = []
  #wakes = new Set<() => void>()
  #timer: NodeJS.Timeout | null = null
  #looking: Promise<void> | null = null
  #unwatch: (() => void) | null = null
  #closed = false

  private constructor(options: DeviceOptions, stateDir: string, happenings: Pick<Happenings, "notice" | "facts">, log: Log) {
    this.#options = options
    this.#happenings = happenings
    this.#log = log
    this.#dirs = options.cdiDirs ?? DEFAULT_CDI_DIRS
    this.#scrubber = new Scrubber({
      command: options.scrub ?? null,
      file: join(stateDir, "devices.json"),
      log,
      changed: () => this.#update(),
    })
  }

  /** Looks at every device once. Nothing is scrubbed or told before `begin`. */
  static async open(
    options: DeviceOptions,
    stateDir: string,
    happenings: Pick<Happenings, "notice" | "facts">,
    log: Log,
  ): Promise<DeviceRegistry> {
    const registry = new DeviceRegistry(options, stateDir, happenings, log)
    await registry.#look()
    return registry
  }

  /** A run that an earlier bridge started has these. */
  adopt(runId: RunId, names: readonly string[]): void {
    for (const name of names) this.#holders.set(name, runId)
    // The scrub command may be newer than the run.
    this.#scrubber.use(names).catch((error: unknown) => this.#log.error("could not record devices", { error: explain(error) }))
  }

  /** All that live are adopted: what else was used is scrubbed, and devices are watched from now on; loss takes two looks. */
  begin(): void {
    for (const name of this.#scrubber.dirty.keys()) if (!this.#holders.has(name)) this.#scrubber.scrub(name)
    this.#unwatch = watchDirs(this.#dirs, () => this.#lookIn(SETTLE_MS))
    this.#update()
    this.#lookIn(this.#lookEveryMs)
  }

  get devices(): readonly Device[] {
    return this.#devices
  }

  get #lookEveryMs(): number {
    return this.#options.lookEveryMs ?? LOOK_EVERY_MS
  }

  #state(): DeviceState {
    return { described: this.#described, seen: this.#seen, holders: this.#holders, dirty: this.#scrubber.dirty }
  }

  /** The run's devices, its alone until `release`. Waits for those that are still in use or being scrubbed. */
  async take(runId: RunId, names: readonly string[], signal: AbortSignal): Promise<Grant> {
    const deadline = performance.now() + (this.#options.waitMs ?? WAIT_MS)
    for (;;) {
      signal.throwIfAborted()
      const found = names.map((name) => obstacle(runId, name, this.#state())).find((each) => each !== null)
      if (found == null) break
      if (!found.passes || performance.now() > deadline) {
        throw new ControllerError("device_unavailable", found.why, { retryable: true })
      }
      await this.#change(signal, deadline - performance.now())
    }
    for (const name of names) this.#holders.set(name, runId)
    await this.#scrubber.use(names)
    try {
      return await grantOf(this.#planFor(names))
    } catch (error) {
      this.#log.warn("a run could not be given its devices", { run: runId, error: explain(error) })
      const message = `The node could not give ${names.join(", ")}.`
      throw new ControllerError("device_unavailable", message, { retryable: true, cause: error })
    } finally {
      this.#update()
    }
  }

  /** A description may go while a run is made ready: then it says so. */
  #planFor(names: readonly string[]) {
    const plans = names.map((name) => this.#described.get(name)?.plan)
    return joinPlans(
      plans.map((plan) => {
        if (plan === undefined || "refused" in plan) throw new Error("its description is gone")
        return plan
      }),
    )
  }

  /** No process of the run is left. Idempotent. */
  release(runId: RunId): void {
    const names = [...this.#holders].filter(([, holder]) => holder === runId).map(([name]) => name)
    if (names.length === 0) return
    for (const name of names) {
      this.#holders.delete(name)
      this.#told.delete(name)
      this.#scrubber.scrub(name)
    }
    this.#update()
  }

  /** Looks again in a moment, or earlier if that was meant already. */
  #lookIn(ms: number): void {
    if (this.#closed) return
    if (this.#timer !== null && ms >= this.#lookEveryMs) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#looking ??= this.#look()
        .catch((error: unknown) => this.#log.warn("could not look at the devices", { error: explain(error) }))
        .finally(() => {
          this.#looking = null
          this.#tell()
          this.#update()
          this.#lookIn(this.#lookEveryMs)
        })
    }, ms)
    this.#timer.unref()
  }

  async #look(): Promise<void> {
    const read = await readSpecFiles(this.#dirs, this.#signature)
    if (read !== null) {
      this.#signature = read.signature
      const { devices, problems } = inventoryOf(read.files, new Set(this.#options.hooks))
      for (const problem of [...read.problems, ...problems]) this.#log.warn("a device description", { problem })
      this.#described = devices
    }
    const seen = new Map<string, Seen>()
    for (const name of new Set([...this.#described.keys(), ...this.#holders.keys()])) {
      const before = this.#seen.get(name)
      const reason = await this.#troubleWith(name)
      // At the first look there is nothing that a glitch could cost anybody.
      seen.set(name, { reason, badLooks: reason === null ? 0 : before === undefined ? LOOKS_TO_LOSE : before.badLooks + 1 })
    }
    this.#seen = seen
  }

  async #troubleWith(name: string): Promise<string | null> {
    const plan = this.#described.get(name)?.plan
    if (plan === undefined) return "its description is gone"
    if ("refused" in plan) return plan.refused
    try {
      for (const node of plan.nodes) await probeNode(node)
      return await this.#probe(name)
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }

  async #probe(name: string): Promise<string | null> {
    const { probe } = this.#options
    if (probe == null) return null
    const last = this.#probed.get(name)
    if (last !== undefined && performance.now() - last.atMs < PROBE_EVERY_MS) return last.failed
    const said = await exec(probe, [name], { timeoutMs: PROBE_TIMEOUT_MS, cwd: "/" }).catch((error: Error) => error)
    const failed =
      said instanceof Error ? said.message : said.code === 0 ? null : `its probe ended with ${said.code ?? "a signal"}`
    this.#probed.set(name, { atMs: performance.now(), failed })
    return failed
  }

  /** Whoever has a device that is gone or fails hears of it once. */
  #tell(): void {
    for (const [name, runId] of this.#holders) {
      const { badLooks, reason } = this.#seen.get(name) ?? { badLooks: 0, reason: null }
      if (reason === null || badLooks < LOOKS_TO_LOSE || this.#told.has(name)) continue
      this.#told.add(name)
      this.#log.error("a device in use is gone or fails", { device: name, run: runId, why: reason })
      // Paths of the host are the operator's to read.
      const message = `The container lost its device ${name}.`
      this.#happenings.notice({
        run_id: runId,
        kind: "accelerator_lost",
        at_ms: Date.now(),
        reason: { code: "accelerator_lost", message },
      })
    }
  }

  #update(): void {
    const devices = devicesOf(this.#state())
    for (const wake of this.#wakes) wake()
    if (isDeepStrictEqual(devices, this.#devices)) return
    this.#devices = devices
    this.#happenings.facts()
  }

  /** Resolves at the next change, or after so long; rejects when aborted. */
  #change(signal: AbortSignal, ms: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (how: () => void) => () => {
        clearTimeout(timer)
        this.#wakes.delete(wake)
        signal.removeEventListener("abort", abort)
        how()
      }
      const wake = done(resolve)
      const abort = done(() => reject(signal.reason as Error))
      const timer = setTimeout(wake, Math.max(ms, 0))
      this.#wakes.add(wake)
      signal.addEventListener("abort", abort, { once: true })
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#unwatch?.()
    await this.#scrubber.close()
    await this.#looking
  }
}
