/**
 * Tells the platform what became of runs: the latest of each, and that it ran, at least once, in as few messages as the moment
 * allows.
 *
 * News that somebody waits for (running, an end, gone) leaves at once; while a message is on its way it waits for that one's
 * acknowledgement, but only so long, so that a burst costs the platform few messages and a far platform's news little time.
 * News that passes by itself (preparing, ready, starting) waits a moment, and for the acknowledgement before it: a start that
 * goes well overtakes it, and costs the platform one message. A new session sends again whatever was not acknowledged.
 *
 * Notices are kept in memory only. A crash of the bridge loses those not acknowledged; whoever gave them looks again when
 * the next bridge begins, and tells anew what still holds. What has passed by then is not told.
 */
import type { RunId, TenantId } from "../../schema/ids.ts"
import { isTerminal, supersedes } from "../../schema/lifecycle.ts"
import type { NodeMessage, Notice, Observation } from "../../schema/protocol.ts"
import { MAX_OBSERVATIONS_PER_REPORT } from "../../schema/protocol.ts"
import type { Timers } from "../timers.ts"
import { WaitingNotices } from "./waiting-notices.ts"
import type { WaitingNotice } from "./waiting-notices.ts"

/** Longer than a start from a present image takes; a pull shows soon enough. */
const PASSING_MS = 50
/** The most that news waits for the acknowledgement of the message before: a platform on the same machine answers sooner. */
const GATHER_MS = 25
/** More on their way would only queue up at the platform. */
const MAX_IN_FLIGHT = 8

type Report = NodeMessage & { type: "report" }

interface InFlight {
  readonly report: Report
  readonly notices: readonly WaitingNotice[]
}

export class Reporter {
  readonly #timers: Pick<Timers, "after">
  #send: ((report: Report) => void) | null = null
  #seq = 0
  readonly #pending = new Map<RunId, readonly Observation[]>()
  readonly #gone = new Set<RunId>()
  readonly #notices = new WaitingNotices()
  readonly #inFlight = new Map<number, InFlight>()
  #scheduled = false
  #urgent = false
  /** Passing news has waited long enough. */
  #ripe = false
  #ripens: (() => void) | null = null
  /** News has waited long enough for an acknowledgement. */
  #gathered = false
  #gathers: (() => void) | null = null
  #idle: (() => void)[] = []

  constructor(timers: Pick<Timers, "after">) {
    this.#timers = timers
  }

  observe(observation: Observation): void {
    const newest = this.#pending.get(observation.run_id)?.at(-1)
    if (newest && !supersedes(observation, newest)) return
    this.#keep(observation)
    if (observation.state === "running" || isTerminal(observation.state)) this.#urgent = true
    else this.#ripen()
    if (this.#urgent) this.#schedule()
  }

  #keep(observation: Observation): void {
    const waiting = this.#pending.get(observation.run_id) ?? []
    this.#pending.set(observation.run_id, worthTelling([...waiting, observation]))
  }

  #ripen(): void {
    this.#ripens ??= this.#timers.after(PASSING_MS, () => {
      this.#ripens = null
      this.#ripe = true
      this.#flush()
    })
  }

  gone(runId: RunId): void {
    this.#gone.add(runId)
    this.#urgent = true
    this.#schedule()
  }

  /** Tells of it at least once; `id` is the notice's alone. */
  notice(notice: Notice, tenant: TenantId): void {
    this.#notices.add(notice, tenant)
    this.#urgent = true
    this.#schedule()
  }

  /** A session is there. Call `observe` for all that is known afterwards: the platform may have missed any of it. */
  attach(send: (report: Report) => void): void {
    this.detach()
    this.#send = send
    this.#urgent = true
    this.#schedule()
  }

  /** The session is over: what was not acknowledged waits again, unless something newer does. */
  detach(): void {
    this.#send = null
    for (const { report, notices } of this.#inFlight.values()) {
      for (const observation of report.observations) this.#keep(observation)
      for (const runId of report.gone) this.#gone.add(runId)
      for (const { notice, tenant } of notices) this.#notices.add(notice, tenant)
    }
    this.#inFlight.clear()
  }

  acknowledged(seq: number): void {
    this.#inFlight.delete(seq)
    this.#flush()
    if (this.#isIdle()) for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** Resolves when everything was acknowledged. */
  idle(): Promise<void> {
    if (this.#isIdle()) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  #isIdle(): boolean {
    return !this.#hasNews() && this.#inFlight.size === 0
  }

  #hasNews(): boolean {
    return this.#pending.size > 0 || this.#gone.size > 0 || this.#notices.size > 0
  }

  /** Everything that one turn of the event loop brings goes into one message. */
  #schedule(): void {
    if (this.#scheduled || this.#send === null) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #gather(): void {
    if (!this.#hasNews()) return
    this.#gathers ??= this.#timers.after(GATHER_MS, () => {
      this.#gathers = null
      this.#gathered = true
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#urgent && this.#inFlight.size > 0 && !this.#gathered) return this.#gather()
    while (this.#send !== null && this.#hasNews()) {
      if (!this.#urgent && (!this.#ripe || this.#inFlight.size > 0)) return
      this.#gathered = true // what is too much for one message goes on with the next, or when there is room
      if (this.#inFlight.size >= MAX_IN_FLIGHT) return
      const next = this.#next()
      this.#inFlight.set(next.report.seq, next)
      this.#send(next.report)
    }
    this.#urgent = false
    this.#ripe = false
    this.#ripens?.()
    this.#ripens = null
    this.#gathered = false
    this.#gathers?.()
    this.#gathers = null
  }

  #next(): InFlight {
    const observations: Observation[] = []
    for (const [runId, waiting] of this.#pending) {
      if (observations.length + waiting.length > MAX_OBSERVATIONS_PER_REPORT) break
      observations.push(...waiting)
      this.#pending.delete(runId)
    }
    // A run is gone only after its last observation was said.
    const gone = [...this.#gone].filter((runId) => !this.#pending.has(runId)).slice(0, MAX_OBSERVATIONS_PER_REPORT)
    for (const runId of gone) this.#gone.delete(runId)
    const notices = this.#notices.take(MAX_OBSERVATIONS_PER_REPORT)
    this.#seq += 1
    const said = notices.map(({ notice }) => notice)
    return { report: { type: "report", seq: this.#seq, observations, gone, notices: said }, notices }
  }
}

/** The newest, after that the run runs: a container that ends at once did run, and its tenant shall read so. */
function worthTelling(all: readonly Observation[]): readonly Observation[] {
  const newest = newestOf(all)
  const running = newestOf(all.filter(({ state }) => state === "running"))
  return [...new Set([running, newest])].filter((observation) => observation !== undefined)
}

function newestOf(all: readonly Observation[]): Observation | undefined {
  return all.reduce<Observation | undefined>((best, one) => (best && !supersedes(one, best) ? best : one), undefined)
}
