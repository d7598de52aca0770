/**
 * Looks at every live run now and then, and tells when one is less confined than promised: soon after it started, then about
 * once a minute. One look at a time, and after each a rest in proportion to what it cost, so that a host full of runs spends
 * a small share of one processor on it and is looked at less often instead.
 *
 * What deviates counts once two looks have found it: a process that is about to end, and a network that is being changed,
 * look like less for some milliseconds, and a run may be stopped for what is told here.
 *
 * What was told is kept in memory: a bridge that takes runs over looks anew and tells what still holds.
 */
import type { RunId } from "../../schema/ids.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { ControllerError } from "../runtime/controller.ts"

/** Its own program has the process by then, and a burst of starts is over. */
const FIRST_LOOK_MS = 1_000
const EVERY_MS = 60_000
/** Longer than a live change of a network takes. */
const SECOND_LOOK_MS = 500
/** For each millisecond of looking: at most a twentieth of one processor. */
const REST_PER_MS = 19
/** A look may wait for a process to become the container's: that costs no processor. */
const LONGEST_REST_MS = 1_000

export interface IsolationWatchOptions {
  /** What of a run deviates. Throws `ControllerError` when it has ended. */
  readonly look: (runId: RunId) => Promise<readonly string[]>
  /** Called once for every distinct set of deviations of a run. */
  readonly deviated: (runId: RunId, deviations: readonly string[]) => void
  readonly log: Log
  readonly everyMs?: number
  readonly firstLookMs?: number
}

export class IsolationWatch {
  readonly #options: IsolationWatchOptions
  readonly #everyMs: number
  readonly #firstLookMs: number
  /** When each run is due, by `performance.now()`. */
  readonly #due = new Map<RunId, number>()
  readonly #told = new Map<RunId, Set<string>>()
  /** What the last look at a run found. */
  readonly #found = new Map<RunId, readonly string[]>()
  #timer: NodeJS.Timeout | null = null
  #looking = false
  #restUntil = 0
  #closed = false

  constructor(options: IsolationWatchOptions) {
    this.#options = options
    this.#everyMs = options.everyMs ?? EVERY_MS
    this.#firstLookMs = options.firstLookMs ?? FIRST_LOOK_MS
  }

  add(runId: RunId): void {
    if (this.#due.has(runId)) return
    this.#due.set(runId, performance.now() + this.#firstLookMs)
    this.#arm()
  }

  remove(runId: RunId): void {
    this.#due.delete(runId)
    this.#told.delete(runId)
    this.#found.delete(runId)
  }

  close(): void {
    this.#closed = true
    this.#due.clear()
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  #next(): { readonly runId: RunId; readonly dueMs: number } | null {
    let next: { readonly runId: RunId; readonly dueMs: number } | null = null
    for (const [runId, dueMs] of this.#due) if (next === null || dueMs < next.dueMs) next = { runId, dueMs }
    return next
  }

  #arm(): void {
    if (this.#looking || this.#closed) return // armed again after the look
    if (this.#timer !== null) clearTimeout(this.#timer)
    const next = this.#next()
    if (next === null) return
    const inMs = Math.max(next.dueMs, this.#restUntil) - performance.now()
    this.#timer = setTimeout(() => void this.#turn(next.runId), Math.max(0, inMs))
    this.#timer.unref()
  }

  async #turn(runId: RunId): Promise<void> {
    this.#looking = true
    const began = performance.now()
    let again = false
    try {
      again = this.#judge(runId, await this.#options.look(runId))
    } catch (error) {
      // An end is seen by others; the run is taken off when it is released.
      if (!(error instanceof ControllerError)) {
        this.#options.log.warn("a run's isolation could not be looked at", { run: runId, error: explain(error) })
      }
    } finally {
      const now = performance.now()
      this.#restUntil = now + Math.min((now - began) * REST_PER_MS, LONGEST_REST_MS)
      if (this.#due.has(runId)) this.#due.set(runId, now + (again ? Math.min(SECOND_LOOK_MS, this.#everyMs) : this.#everyMs))
      this.#looking = false
      this.#arm()
    }
  }

  /** Whether another look must say if it is so. */
  #judge(runId: RunId, found: readonly string[]): boolean {
    if (!this.#due.has(runId)) return false
    const before = this.#found.get(runId) ?? []
    this.#found.set(runId, found)
    const deviations = found.filter((each) => before.includes(each))
    this.#tell(runId, deviations)
    return deviations.length < found.length
  }

  #tell(runId: RunId, deviations: readonly string[]): void {
    if (deviations.length === 0) return
    const told = this.#told.get(runId) ?? new Set()
    const set = JSON.stringify(deviations.toSorted())
    if (told.has(set)) return
    this.#told.set(runId, told.add(set))
    this.#options.deviated(runId, deviations)
  }
}
