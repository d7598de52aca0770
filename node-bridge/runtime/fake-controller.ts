/**
 * The seam with nothing behind it: runs are records with a clock, and do what their knobs say. For tests, and for trying the
 * platform out on a machine without root. With a directory it outlives the bridge as real containers do: a run goes on while
 * no bridge is there, and has ended when the next one looks.
 */
import { mkdir, readdir, readFile } from "node:fs/promises"
import { rmSync, writeFileSync } from "node:fs"
import { createHash } from "node:crypto"
import { join } from "node:path"
import { z } from "zod"
import type { Network, SignalName } from "../../schema/container.ts"
import { SIGNALS } from "../../schema/container.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Isolation } from "../../schema/isolation.ts"
import { Assignment } from "../../schema/protocol.ts"
import type { Condition, LogEntry, LogOptions, Notice } from "../../schema/protocol.ts"
import { FEATURES } from "../../schema/features.ts"
import type { Device, ProfileOffer } from "../../schema/node.ts"
import type { Timers } from "../timers.ts"
import { ControllerError } from "./controller.ts"
import type { Controller, HostListener, Inspection, Outcome, Prepared, Started } from "./controller.ts"
import { FakeKnobs, knobsOf } from "./fake-knobs.ts"

const FakeRun = z.object({
  assignment: Assignment,
  knobs: FakeKnobs,
  phase: z.enum(["preparing", "prepared", "running", "exited"]),
  failures: z.object({ prepare: z.int(), start: z.int(), network: z.int() }),
  started_at_ms: z.int().nullable(),
  /** When the process ends by itself; while paused, how long it has left. */
  ends_at_ms: z.number().nullable(),
  left_ms: z.number().nullable(),
  exit: z.object({ code: z.int(), signal: z.string().nullable(), oom_killed: z.boolean() }).nullable(),
  finished_at_ms: z.int().nullable(),
  released: z.boolean(),
})
type FakeRun = z.infer<typeof FakeRun>

export interface FakeControllerOptions {
  /** Where runs are kept over a restart; null: in memory only. */
  readonly dir: string | null
  readonly timers: Timers
  readonly knobs?: Partial<FakeKnobs>
  readonly devices?: readonly Device[]
}

export async function createFakeController(options: FakeControllerOptions): Promise<FakeController> {
  const runs: FakeRun[] = []
  if (options.dir !== null) {
    await mkdir(options.dir, { recursive: true, mode: 0o700 })
    for (const name of await readdir(options.dir)) {
      const parsed = FakeRun.safeParse(JSON.parse(await readFile(join(options.dir, name), "utf8")))
      if (parsed.success) runs.push(parsed.data)
    }
  }
  return new FakeController(options, runs)
}

export class FakeController implements Controller {
  readonly profiles: readonly ProfileOffer[] = [{ name: "hardened", runtime: "fake", features: [...FEATURES] }]
  readonly maxOpenFiles = 1_048_576
  readonly versions = { controller: "fake" }
  readonly #options: FakeControllerOptions
  readonly #runs = new Map<RunId, FakeRun>()
  #everStarted = 0
  readonly #timers = new Map<RunId, () => void>()
  readonly #waiters = new Map<RunId, Set<() => void>>()
  #devices: readonly Device[]
  #condition: Condition = { accepting: true, reason: null, conditions: [] }
  #listener: HostListener | null = null
  #broken: string | null = null

  constructor(options: FakeControllerOptions, runs: readonly FakeRun[]) {
    this.#options = options
    this.#devices = options.devices ?? []
    for (const run of runs) {
      this.#runs.set(run.assignment.run_id, run)
      this.#arm(run)
    }
  }

  /** Processes that this controller has started in all: a run that was started twice shows here. */
  get everStarted(): number {
    return this.#everStarted
  }

  get devices(): readonly Device[] {
    return this.#devices
  }
  get condition(): Condition {
    return this.#condition
  }

  listen(listener: HostListener): () => void {
    this.#listener = listener
    return () => (this.#listener = null)
  }

  /** Knob: devices came, went or failed. */
  setDevices(devices: readonly Device[]): void {
    this.#devices = devices
    this.#listener?.facts()
  }
  /** Knob: the host is short of something. */
  setCondition(condition: Condition): void {
    this.#condition = condition
    this.#listener?.condition()
  }
  /** Knob: something happened to a run. */
  happen(notice: Omit<Notice, "id">): void {
    this.#listener?.notice(notice)
  }
  /** Knob: every start from now on fails with this code, and so does the host's own; null: as the runs' knobs say. */
  breakDown(code: string | null): void {
    this.#broken = code
  }
  async probe(): Promise<void> {
    if (this.#broken !== null) throw new ControllerError(this.#broken, "The fake controller was told to be broken.")
  }
  /** The network that a run has now. */
  networkOf(runId: RunId): Network | undefined {
    return this.#runs.get(runId)?.assignment.spec.network
  }

  /** Knob: how often it was told to expect runs. */
  expected = 0
  expect(): void {
    this.expected += 1
  }

  async prepare(assignment: Assignment, signal: AbortSignal): Promise<Prepared> {
    const run = this.#runs.get(assignment.run_id) ?? this.#fresh(assignment)
    if (run.phase === "preparing") {
      await this.#pass(run.knobs.prepare_ms, signal)
      signal.throwIfAborted()
      this.#failOn(run, "prepare", run.knobs.prepare_error, run.knobs.prepare_error_retryable, run.knobs.prepare_failures)
      this.#put({ ...run, phase: "prepared" })
    }
    return { image_digest: digestOf(assignment), timings: { image: 0 } }
  }

  async start(assignment: Assignment): Promise<Started> {
    const before = this.#must(assignment.run_id)
    if (before.started_at_ms !== null) return { started_at_ms: before.started_at_ms, timings: {} }
    await this.#pass(before.knobs.start_ms, new AbortController().signal)
    await this.probe()
    const run = this.#must(assignment.run_id)
    this.#failOn(run, "start", run.knobs.start_error, run.knobs.start_error_retryable, run.knobs.start_failures)
    const now = this.#options.timers.now()
    const ends = run.knobs.run_for_ms === null ? null : now + run.knobs.run_for_ms
    const started = { ...run, phase: "running" as const, started_at_ms: now, ends_at_ms: ends }
    this.#everStarted += 1
    this.#put(started)
    this.#arm(started)
    return { started_at_ms: now, timings: { start: 0 } }
  }

  async inspect(runId: RunId): Promise<Inspection> {
    const run = this.#runs.get(runId)
    if (!run) return { kind: "absent" }
    switch (run.phase) {
      case "preparing":
        return { kind: "absent" }
      case "prepared":
        return { kind: "prepared" }
      case "running":
        return { kind: "running", paused: run.left_ms !== null, started_at_ms: run.started_at_ms ?? 0 }
      case "exited":
        return { kind: "exited", outcome: outcomeOf(run) }
    }
  }

  async wait(runId: RunId, signal: AbortSignal): Promise<Outcome> {
    while (this.#must(runId).phase !== "exited") {
      await new Promise<void>((resolve, reject) => {
        const waiters = this.#waiters.get(runId) ?? new Set()
        this.#waiters.set(runId, waiters.add(resolve))
        signal.addEventListener("abort", () => reject(signal.reason), { once: true })
      })
      signal.throwIfAborted()
    }
    return outcomeOf(this.#must(runId))
  }

  async signal(runId: RunId, signal: SignalName): Promise<void> {
    const run = this.#runs.get(runId)
    if (run?.phase !== "running") return
    const deaf = signal !== "SIGKILL" && (run.knobs.ignore_stop || run.left_ms !== null || !DEADLY.has(signal))
    if (!deaf) this.#end(run, { code: 128 + SIGNALS[signal], signal, oom_killed: false })
  }

  async pause(runId: RunId): Promise<void> {
    const run = this.#must(runId)
    if (run.phase !== "running" || run.left_ms !== null) return
    const left = run.ends_at_ms === null ? Number.MAX_SAFE_INTEGER : run.ends_at_ms - this.#options.timers.now()
    this.#timers.get(runId)?.()
    this.#put({ ...run, left_ms: left })
  }

  async unpause(runId: RunId): Promise<void> {
    const run = this.#must(runId)
    if (run.phase !== "running" || run.left_ms === null) return
    const ends = run.ends_at_ms === null ? null : this.#options.timers.now() + run.left_ms
    const thawed = { ...run, left_ms: null, ends_at_ms: ends }
    this.#put(thawed)
    this.#arm(thawed)
  }

  async setNetwork(runId: RunId, network: Network): Promise<void> {
    const run = this.#runs.get(runId)
    if (!run || run.phase === "exited") return
    this.#failOn(run, "network", run.knobs.network_error, true, run.knobs.network_failures)
    this.#put({ ...run, assignment: { ...run.assignment, spec: { ...run.assignment.spec, network } } })
  }

  async stopSignal(runId: RunId): Promise<SignalName | null> {
    return this.#runs.get(runId)?.knobs.stop_signal ?? null
  }

  async release(runId: RunId): Promise<void> {
    const run = this.#runs.get(runId)
    if (!run) return
    if (run.phase === "running") this.#end(run, { code: 137, signal: "SIGKILL", oom_killed: false })
    const ended = this.#runs.get(runId)
    if (ended) this.#put({ ...ended, released: true })
  }

  async remove(runId: RunId): Promise<void> {
    await this.release(runId)
    this.#timers.get(runId)?.()
    this.#runs.delete(runId)
    if (this.#options.dir !== null) rmSync(join(this.#options.dir, `${runId}.json`), { force: true })
  }

  async list(): Promise<RunId[]> {
    return [...this.#runs.keys()]
  }

  async *logs(runId: RunId, options: LogOptions, signal: AbortSignal): AsyncGenerator<LogEntry> {
    const run = this.#runs.get(runId)
    if (!run || run.started_at_ms === null) return
    const startedAt = run.started_at_ms
    const wanted = options.streams.includes("stdout") && (options.since_ms === null || options.since_ms <= startedAt)
    const lines = wanted && run.knobs.output !== "" ? run.knobs.output.split("\n") : []
    const entries = lines.map((text, index) => ({
      run_id: runId,
      time: new Date(startedAt).toISOString(),
      stream: "stdout" as const,
      partial: false,
      text,
      cursor: String(index + 1),
    }))
    const unread = entries.slice(options.after === null ? 0 : Number(options.after))
    yield* options.tail === null ? unread : unread.slice(Math.max(unread.length - options.tail, 0))
    if (options.follow && this.#runs.has(runId)) await this.wait(runId, signal)
  }

  async isolation(runId: RunId): Promise<Isolation> {
    const { assignment, phase } = this.#must(runId)
    if (phase !== "running") throw new ControllerError("not_running", "The container does not run.")
    const none: string[] = []
    return {
      run_id: runId,
      read_at: new Date(this.#options.timers.now()).toISOString(),
      profile: assignment.spec.profile,
      runtime: { name: "fake", version: "0" },
      versions: this.versions,
      namespaces: {},
      user: { uid_map: [], gid_map: [], runs_as_uid_inside: 0, root_is_host_root: false },
      capabilities: { effective: none, permitted: none, inheritable: none, bounding: none, ambient: none },
      no_new_privileges: false,
      seccomp: { mode: "none", filters: 0, sha256: null },
      mounts: [],
      masked_paths: none,
      read_only_paths: none,
      limits: {
        cpus: null,
        memory_bytes: null,
        memory_swap_bytes: null,
        pids: null,
        processors: null,
        disk_bytes: null,
        open_files: null,
        io: {},
        cgroup_version: "2",
      },
      devices: [],
      network: {
        mode: "loopback",
        interfaces: none,
        egress: "none",
        egress_bytes_per_second: null,
        ingress_bytes_per_second: null,
        rules: none,
      },
      deviations: ["There is no process: this node uses the fake controller."],
      verdict: "deviates",
    }
  }

  async maintain(): Promise<void> {}

  /** Runs go on, as real ones do. */
  async close(): Promise<void> {}

  #fresh(assignment: Assignment): FakeRun {
    const fresh: FakeRun = {
      assignment,
      knobs: knobsOf(assignment.spec, this.#options.knobs ?? {}),
      phase: "preparing",
      failures: { prepare: 0, start: 0, network: 0 },
      started_at_ms: null,
      ends_at_ms: null,
      left_ms: null,
      exit: null,
      finished_at_ms: null,
      released: false,
    }
    this.#put(fresh)
    return fresh
  }

  #must(runId: RunId): FakeRun {
    const run = this.#runs.get(runId)
    if (!run) throw new ControllerError("no_such_run", "The run is not on this host.")
    return run
  }

  #put(run: FakeRun): void {
    const runId = run.assignment.run_id
    this.#runs.set(runId, run)
    if (this.#options.dir !== null) writeFileSync(join(this.#options.dir, `${runId}.json`), JSON.stringify(run), { mode: 0o600 })
  }

  #failOn(run: FakeRun, verb: keyof FakeRun["failures"], code: string | null, retryable: boolean, times: number | null): void {
    if (code === null || (times !== null && run.failures[verb] >= times)) return
    this.#put({ ...run, failures: { ...run.failures, [verb]: run.failures[verb] + 1 } })
    throw new ControllerError(code, `The fake controller was told to fail to ${verb} with ${code}.`, { retryable })
  }

  #arm(run: FakeRun): void {
    if (run.phase !== "running" || run.ends_at_ms === null || run.left_ms !== null) return
    const { timers } = this.#options
    const runId = run.assignment.run_id
    const cancel = timers.after(run.ends_at_ms - timers.now(), () => {
      const now = this.#runs.get(runId)
      if (now?.phase !== "running" || now.left_ms !== null) return
      if ((now.ends_at_ms ?? Number.POSITIVE_INFINITY) > timers.now()) return this.#arm(now)
      const { exit_code, exit_signal, oom_killed } = now.knobs
      const code = exit_signal === null ? exit_code : 128 + SIGNALS[exit_signal]
      this.#end(now, { code, signal: exit_signal, oom_killed })
    })
    this.#timers.set(runId, cancel)
  }

  #end(run: FakeRun, exit: NonNullable<FakeRun["exit"]>): void {
    const runId = run.assignment.run_id
    this.#timers.get(runId)?.()
    this.#put({ ...run, phase: "exited", exit, left_ms: null, finished_at_ms: this.#options.timers.now() })
    const waiters = this.#waiters.get(runId)
    this.#waiters.delete(runId)
    for (const resolve of waiters ?? []) resolve()
  }

  #pass(ms: number, signal: AbortSignal): Promise<void> {
    if (ms === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const cancel = this.#options.timers.after(ms, resolve)
      signal.addEventListener("abort", () => (cancel(), reject(signal.reason)), { once: true })
    })
  }
}

/** Signals that end a process which does not handle them; see signal(7). */
const DEADLY: ReadonlySet<SignalName> = new Set([
  "SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGTERM",
]) // prettier-ignore

const outcomeOf = (run: FakeRun): Outcome => ({
  exit: {
    ...(run.exit ?? { code: null, signal: null, oom_killed: false }),
    log_tail: run.knobs.output === "" ? [] : run.knobs.output.split("\n").slice(-10),
  },
  finished_at_ms: run.finished_at_ms ?? 0,
  host_fault: null,
})

const digestOf = ({ spec }: Assignment): string =>
  spec.image_digest ?? `sha256:${createHash("sha256").update(spec.image).digest("hex")}`
