/**
 * The steps of a run that touch its host, each with what must be written down before it: `starting` before `start`; a stop before
 * its first signal, so that the blame survives; the end before `release`, which destroys the evidence. `running` need not
 * be: an inspection finds it again. A change of the network is on record until it is done, and done again after a crash.
 */
import type { RunId } from "../../schema/ids.ts"
import type { Controller, Inspection } from "../runtime/controller.ts"
import type { Timers } from "../timers.ts"
import { risen, withPaused } from "./advance.ts"
import type { Step } from "./advance.ts"
import type { RunRecord, Stop } from "./record.ts"
import type { Semaphore } from "./semaphore.ts"

/** The run as its manager holds it: a wish may change the record while a verb is in flight, so it is read again each time. */
export interface HeldRun {
  readonly runId: RunId
  readonly record: RunRecord
  readonly seen: Inspection | null
  become(record: RunRecord): void
  see(seen: Inspection): void
  /** Returns when the record as it is now would survive this process. Throws when it cannot be written. */
  written(): void
  /** Throws when the wish has changed, or the lease has run out, since the step began. */
  wanted(): void
  /** Runs what a changed wish calls off. */
  abortable<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T>
}

export interface VerbDeps {
  readonly controller: Controller
  readonly starts: Semaphore
  readonly timers: Timers
}

export type HostStep = Exclude<Step, { kind: "wait" | "record" | "remove" }>

/** Throws what the controller throws. */
export async function perform(step: HostStep, run: HeldRun, deps: VerbDeps): Promise<void> {
  const { controller, timers } = deps
  switch (step.kind) {
    case "inspect":
      return run.see(await controller.inspect(run.runId))
    case "prepare":
      return prepare(step.clear, run, deps)
    case "start":
      return start(run, deps)
    case "ask": {
      run.written()
      const signal = run.record.assignment.spec.stop.signal ?? (await controller.stopSignal(run.runId)) ?? "SIGTERM"
      await controller.signal(run.runId, signal)
      return stopping(run, { signalled_at_ms: timers.now() })
    }
    case "kill":
      run.written()
      await controller.signal(run.runId, "SIGKILL")
      return stopping(run, { signalled_at_ms: run.record.stop?.signalled_at_ms ?? timers.now(), killed_at_ms: timers.now() })
    case "pause":
      await controller.pause(run.runId)
      return paused(run, true, timers.now())
    case "unpause":
      await controller.unpause(run.runId)
      return paused(run, false, timers.now())
    case "set_network": {
      const { network } = run.record.assignment.spec
      await controller.setNetwork(run.runId, network)
      // A newer wish may have come meanwhile: it is due still.
      const isLatest = run.record.assignment.spec.network === network
      return run.become({ ...run.record, network_due: !isLatest })
    }
    case "release":
      run.written()
      await controller.release(run.runId)
      return run.become({ ...run.record, released: true })
  }
}

async function prepare(clear: boolean, run: HeldRun, { controller, timers }: VerbDeps): Promise<void> {
  if (clear) await controller.remove(run.runId)
  const { network } = run.record.assignment.spec
  const { image_digest, timings } = await run.abortable((signal) => controller.prepare(run.record.assignment, signal))
  run.see({ kind: "prepared" })
  const network_due = run.record.assignment.spec.network !== network
  const known = { ...run.record, image_digest, network_due, timings: { ...run.record.timings, ...timings } }
  run.become(known.state === "preparing" ? risen(known, "ready", timers.now()) : known)
}

async function start(run: HeldRun, { controller, starts, timers }: VerbDeps): Promise<void> {
  const askedAt = performance.now()
  const giveBack = await run.abortable((signal) => starts.acquire(signal))
  try {
    run.wanted()
    const queued = { start_queue: round(performance.now() - askedAt) }
    if (run.record.state !== "starting") run.become(risen(run.record, "starting", timers.now()))
    run.written()
    const { started_at_ms, timings } = await controller.start(run.record.assignment)
    run.become({
      ...risen(run.record, "running", timers.now()),
      started_at_ms,
      timings: { ...run.record.timings, ...queued, ...timings },
    })
    run.see({ kind: "running", paused: false, started_at_ms })
  } finally {
    giveBack()
  }
}

function stopping(run: HeldRun, change: Partial<Stop>): void {
  if (run.record.stop) run.become({ ...run.record, stop: { ...run.record.stop, ...change } })
}

/** The run's end may have come in meanwhile, and outweighs this. */
function paused(run: HeldRun, isPaused: boolean, nowMs: number): void {
  if (run.seen?.kind !== "running") return
  run.see({ ...run.seen, paused: isPaused })
  run.become(withPaused(run.record, isPaused, nowMs))
}

const round = (ms: number): number => Math.round(ms * 100) / 100
