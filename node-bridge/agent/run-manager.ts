/**
 * One run's loop: look at what `advance` says, do that one thing on the host, write it down, report it, and again until
 * there is nothing to do. It holds no policy. One verb is in flight at a time; a wish that changes calls off a preparation.
 */
import { isDeepStrictEqual } from "node:util"
import type { RunId } from "../../schema/ids.ts"
import type { SignalName } from "../../schema/container.ts"
import { DESIRED } from "../../schema/lifecycle.ts"
import type { Assignment, Reason } from "../../schema/protocol.ts"
import type { Inspection } from "../runtime/controller.ts"
import { explain } from "../log.ts"
import { advance, maySettle } from "./advance.ts"
import { gaveUp } from "./endings.ts"
import { KeptRecord } from "./kept-record.ts"
import type { KeptRecordDeps } from "./kept-record.ts"
import { hasEnded, withStop } from "./record.ts"
import type { RunRecord, Stop } from "./record.ts"
import { verdict } from "./retry.ts"
import type { RuntimeHealth } from "./runtime-health.ts"
import type { Verb } from "./retry.ts"
import { perform } from "./verbs.ts"
import type { HeldRun, VerbDeps } from "./verbs.ts"

export interface RunManagerDeps extends VerbDeps, KeptRecordDeps {
  readonly bootId: string
  /** How creates fare on this host. */
  readonly health: Pick<RuntimeHealth, "succeeded" | "failed">
  /** Looks at the lease, before each step: a bridge that slept past its end must stop its runs before it does anything else. */
  readonly heed: () => void
  /** Nothing of the run is left on this host. */
  readonly gone: (runId: RunId) => void
}

const CALLED_OFF = new Error("The wish for this run changed.")

export class RunManager {
  readonly #deps: RunManagerDeps
  readonly #held: HeldRun
  readonly #kept: KeptRecord
  #seen: Inspection | null
  #dropped = false
  #closed = false
  #notBeforeMs = 0
  #poked = false
  #rouse: (() => void) | null = null
  /** Calls off the verb in flight, when it is one that may be. */
  #inFlight: AbortController | null = null
  #watch: AbortController | null = null
  readonly #failures = new Map<Verb, number>()
  readonly #settled = Promise.withResolvers<void>()
  #done: Promise<void> = Promise.resolve()

  /** `seen`: what is known of the run on the host; null to look first. `saved`: the record comes from the journal. */
  constructor(deps: RunManagerDeps, record: RunRecord, seen: Inspection | null, saved: boolean) {
    this.#deps = deps
    this.#kept = new KeptRecord(deps, record, saved)
    this.#seen = seen
    this.#held = this.#hold()
  }

  get runId(): RunId {
    return this.#record.assignment.run_id
  }
  get record(): RunRecord {
    return this.#kept.now
  }
  get #record(): RunRecord {
    return this.#kept.now
  }
  get dropped(): boolean {
    return this.#dropped
  }
  /** Resolves when the run has ended and all but its log is given back. */
  whenSettled(): Promise<void> {
    return this.#settled.promise
  }

  begin(): void {
    if (this.#record.released) this.#settled.resolve()
    if (!this.#dropped) this.#deps.report(this.#record)
    this.#done = this.#loop()
  }

  /** A newer assignment of this run. Of its spec only the network changes; a wish never goes back. */
  assign(assignment: Assignment): void {
    const { desired, paused, stop_timeout_seconds, stop_reason } = assignment
    const known = this.#record.assignment
    if (DESIRED.indexOf(desired) < DESIRED.indexOf(known.desired)) return
    const network = isDeepStrictEqual(assignment.spec.network, known.spec.network) ? known.spec.network : assignment.spec.network
    const same = network === known.spec.network && desired === known.desired && paused === known.paused
    if (same && stop_timeout_seconds === known.stop_timeout_seconds) return
    const spec = { ...known.spec, network }
    const network_due = this.#record.network_due || network !== known.spec.network
    const wished = { ...known, desired, paused, stop_timeout_seconds, stop_reason, spec }
    this.#changed({ ...this.#record, assignment: wished, network_due })
  }

  /** The node itself, or the platform through it, stops the run. What is being stopped already keeps its reason. */
  stop(by: Stop["by"], reason: Reason, limitSeconds: number | null): void {
    if (hasEnded(this.#record)) return
    const asked = { by, reason, limit_seconds: limitSeconds }
    this.#changed(withStop(this.#record, asked, this.#deps.timers.now()))
  }

  /** The platform's set has this run no more. */
  drop(): void {
    this.#dropped = true
    this.#inFlight?.abort(CALLED_OFF)
    this.#notBeforeMs = 0
    this.#poke()
  }

  /** The tenant sends a signal by hand. Throws `ControllerError`. */
  async signal(signal: SignalName): Promise<void> {
    if (this.#record.state !== "running") return
    this.#kept.become({ ...this.#record, tenant_signal: signal })
    await this.#deps.controller.signal(this.runId, signal)
  }

  /** Ends the loop and leaves the run as it is. A start in flight is waited for; it is short. */
  async close(): Promise<void> {
    this.#closed = true
    this.#inFlight?.abort(CALLED_OFF)
    this.#watch?.abort(CALLED_OFF)
    this.#poke()
    await this.#done
  }

  /** Journals what a full disk refused before. */
  writeAgain(): void {
    this.#kept.save()
  }

  #changed(record: RunRecord): void {
    this.#notBeforeMs = 0
    this.#kept.become(record)
    if (!maySettle(this.#record, { dropped: this.#dropped })) this.#inFlight?.abort(CALLED_OFF)
    this.#poke()
  }

  #poke(): void {
    this.#poked = true
    this.#rouse?.()
  }

  async #loop(): Promise<void> {
    for (;;) {
      if (this.#closed) return
      this.#poked = false
      this.#deps.heed()
      const facts = { seen: this.#seen, dropped: this.#dropped, bootId: this.#deps.bootId, notBeforeMs: this.#notBeforeMs }
      const step = advance(this.#record, facts, this.#deps.timers.now())
      switch (step.kind) {
        case "wait":
          await this.#rest(step.untilMs)
          break
        case "record":
          this.#become(step.record)
          break
        case "inspect":
        case "prepare":
        case "start":
        case "ask":
        case "kill":
        case "pause":
        case "unpause":
        case "set_network":
        case "release":
          await this.#try(step.kind, () => perform(step, this.#held, this.#deps))
          break
        case "remove":
          if (await this.#try("remove", () => this.#remove())) return
          break
      }
    }
  }

  #rest(untilMs: number | null): Promise<void> {
    if (this.#poked) return Promise.resolve()
    return new Promise((resolve) => {
      const cancel =
        untilMs === null ? undefined : this.#deps.timers.after(untilMs - this.#deps.timers.now(), () => this.#rouse?.())
      this.#rouse = () => {
        cancel?.()
        this.#rouse = null
        resolve()
      }
    })
  }

  async #remove(): Promise<void> {
    this.#watch?.abort(CALLED_OFF)
    await this.#deps.controller.remove(this.runId)
    await this.#deps.journal.forget(this.runId)
    this.#deps.gone(this.runId)
    this.#settled.resolve()
  }

  /** Runs a verb; false when it failed, and then what to do about it is settled. */
  async #try(verb: Verb, run: () => Promise<void>): Promise<boolean> {
    try {
      await run()
      this.#failures.delete(verb)
      if (verb === "start") this.#deps.health.succeeded()
      return true
    } catch (error) {
      if (error !== CALLED_OFF) this.#failed(verb, error)
      return false
    }
  }

  #failed(verb: Verb, error: unknown): void {
    const { log, timers } = this.#deps
    const failures = (this.#failures.get(verb) ?? 0) + 1
    this.#failures.set(verb, failures)
    log.warn(`could not ${verb} a run`, { run: this.runId, try: failures, error: explain(error) })
    // A failed preparation runs nothing; after any other verb only the host knows where things are.
    if (verb !== "prepare" && this.#seen?.kind !== "exited") this.#seen = null
    const then = verdict(verb, error, failures)
    switch (then.kind) {
      case "again":
        this.#notBeforeMs = timers.now() + then.inMs
        return
      case "give_up":
        this.#deps.health.failed(this.#record.assignment, then.reason.code)
        this.#become(gaveUp(this.#record, then.reason, then.exitCode, timers.now()))
        return
    }
  }

  #hold(): HeldRun {
    const record = () => this.#record
    const seen = () => this.#seen
    return {
      runId: this.runId,
      get record() {
        return record()
      },
      get seen() {
        return seen()
      },
      become: (next) => this.#become(next),
      see: (next) => this.#see(next),
      written: () => this.#kept.written(),
      wanted: () => this.#wanted(),
      abortable: (run) => this.#abortable(run),
    }
  }

  #wanted(): void {
    this.#deps.heed()
    if (this.#closed || !maySettle(this.#record, { dropped: this.#dropped })) throw CALLED_OFF
  }

  async #abortable<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController()
    this.#wanted()
    this.#inFlight = controller
    try {
      return await run(controller.signal)
    } catch (error) {
      throw controller.signal.aborted ? CALLED_OFF : error
    } finally {
      this.#inFlight = null
    }
  }

  #see(seen: Inspection): void {
    this.#seen = seen
    if (seen.kind === "running" && this.#watch === null) this.#watchEnd()
  }

  #watchEnd(): void {
    const watch = new AbortController()
    this.#watch = watch
    void this.#untilEnd(watch.signal)
  }

  async #untilEnd(signal: AbortSignal): Promise<void> {
    try {
      await Promise.resolve() // the report that it runs goes first: somebody waits for it
      this.#seen = { kind: "exited", outcome: await this.#deps.controller.wait(this.runId, signal) }
    } catch (error) {
      if (signal.aborted) return
      this.#failed("inspect", error)
    } finally {
      this.#watch = null
    }
    this.#poke()
  }

  #become(record: RunRecord): void {
    this.#kept.become(record)
    if (record.released) this.#settled.resolve()
  }
}
