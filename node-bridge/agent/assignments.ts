/**
 * Which runs this node has: the platform's set made into run-managers. A complete set says what is to be here, and only it
 * may condemn what is not in it; increments follow, each chained to the one before.
 */
import { z } from "zod"
import { ImageDigest } from "../../schema/container.ts"
import { RunId } from "../../schema/ids.ts"
import { Assignment } from "../../schema/protocol.ts"
import type { Observation, Reason } from "../../schema/protocol.ts"
import { explain } from "../log.ts"
import { EARLIER_BOOT, newRecord, observationOf, UNKNOWN_BOOT } from "./record.ts"
import type { RunRecord } from "./record.ts"
import type { Reporter } from "./reporter.ts"
import { RunManager } from "./run-manager.ts"
import type { RunManagerDeps } from "./run-manager.ts"

/** What the API's schema cannot know to be a host's own rule: these two reach host names and the image store. */
const Vetted = Assignment.refine((run) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(run.spec.hostname), {
  path: ["spec", "hostname"],
  message: "must be a host name of lower-case letters, digits and inner hyphens",
}).refine((run) => run.spec.image_digest === null || ImageDigest.safeParse(run.spec.image_digest).success, {
  path: ["spec", "image_digest"],
  message: "must be a sha256 digest",
})
const Addressed = z.looseObject({ run_id: RunId, desired: z.unknown() })

export interface AssignmentsDeps extends Omit<RunManagerDeps, "report" | "gone"> {
  readonly reporter: Reporter
  /** The first complete set is dealt with. */
  readonly onComplete: () => void
}

/** What the bridge found when it began. */
export interface Found {
  readonly onHost: ReadonlySet<RunId>
  readonly unreadable: ReadonlySet<RunId>
  readonly incomplete: boolean
}

export class Assignments {
  readonly #deps: AssignmentsDeps
  readonly #managers = new Map<RunId, RunManager>()
  /** Runs of which something was on the host when the bridge began: the host is looked at before anything is done. */
  readonly #foundOnHost: ReadonlySet<RunId>
  readonly #journal: { readonly unreadable: ReadonlySet<RunId>; readonly incomplete: boolean }
  /** Until the first complete set nobody knows which leftovers are wanted. */
  #knowsAll = false

  constructor(deps: AssignmentsDeps, found: Found) {
    this.#deps = deps
    this.#foundOnHost = found.onHost
    this.#journal = found
  }

  get all(): readonly RunManager[] {
    return [...this.#managers.values()]
  }

  get(runId: RunId): RunManager | undefined {
    return this.#managers.get(runId)
  }

  /** Takes up what the journal knew; nothing of it is condemned yet. */
  adopt(records: readonly RunRecord[]): void {
    const managers = records.map((record) => new RunManager(this.#managerDeps(), record, null, true))
    for (const manager of managers) this.#managers.set(manager.runId, manager)
    // The first step of the first may find that the lease of all is gone.
    for (const manager of managers) manager.begin()
  }

  /** The whole set: everything else on this host goes. */
  complete(assignments: readonly unknown[]): void {
    const wanted = new Set<RunId>()
    for (const raw of assignments) {
      const runId = this.#upsert(raw)
      if (runId) wanted.add(runId)
    }
    for (const [runId, manager] of this.#managers) if (!wanted.has(runId)) manager.drop()
    if (!this.#knowsAll) this.#deps.onComplete()
    this.#knowsAll = true
    for (const manager of this.#managers.values()) {
      if (!manager.dropped) this.#deps.reporter.observe(observationOf(manager.record))
    }
    void this.sweep()
  }

  increment(upsert: readonly unknown[], remove: readonly RunId[]): void {
    for (const raw of upsert) this.#upsert(raw)
    for (const runId of remove) this.#managers.get(runId)?.drop()
  }

  /** Removes what is on the host and belongs to no run that anybody knows. Never throws. */
  async sweep(): Promise<void> {
    if (!this.#knowsAll) return
    const { controller, log } = this.#deps
    try {
      for (const runId of await controller.list()) {
        if (this.#managers.has(runId)) continue
        log.warn("removes what is left of a run that nobody knows", { run: runId })
        await controller.remove(runId)
      }
    } catch (error) {
      log.warn("could not remove all that is left over", { error: explain(error) })
    }
  }

  /** Images that runs here use or will use again. */
  liveImages(): ReadonlySet<string> {
    const digests = this.all.flatMap(({ record }) => [record.image_digest, record.assignment.spec.image_digest])
    return new Set(digests.filter((digest) => digest !== null))
  }

  /** What could not be written when it changed, for want of space. */
  writeAgain(): void {
    for (const manager of this.#managers.values()) manager.writeAgain()
  }

  /** Resolves when every run here has ended and is cleaned up. */
  async settled(): Promise<void> {
    await Promise.all(this.all.map((manager) => manager.whenSettled()))
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((manager) => manager.close()))
  }

  #upsert(raw: unknown): RunId | undefined {
    const parsed = Vetted.safeParse(raw)
    if (!parsed.success) return this.#refuse(raw, parsed.error)
    const assignment = parsed.data
    const known = this.#managers.get(assignment.run_id)
    if (known) {
      known.assign(assignment)
      return assignment.run_id
    }
    const fresh = newRecord(assignment, this.#deps.bootId, this.#deps.timers.now())
    const lostBoot = this.#mayHaveRunIn(assignment.run_id)
    const record = lostBoot === null ? fresh : { ...fresh, boot_id: lostBoot }
    const seen = lostBoot !== null || this.#foundOnHost.has(assignment.run_id) ? null : ({ kind: "absent" } as const)
    const manager = new RunManager(this.#managerDeps(), record, seen, false)
    // Its end was told before the journal forgot it, or it never began: there is nothing to say but that it is gone.
    if (assignment.desired === "removed") manager.drop()
    this.#add(manager)
    return assignment.run_id
  }

  /** The boot in which a run that the journal does not know may have run already; null: it is new. */
  #mayHaveRunIn(runId: RunId): string | null {
    if (this.#journal.unreadable.has(runId)) return UNKNOWN_BOOT
    return this.#journal.incomplete && !this.#knowsAll ? EARLIER_BOOT : null
  }

  /** One assignment that cannot be read must not cut the node off for all others: its run alone is rejected. */
  #refuse(raw: unknown, error: z.ZodError): RunId | undefined {
    const first = error.issues[0]
    const what = first ? `${first.path.join(".")}: ${first.message}` : "it cannot be read"
    this.#deps.log.error("refuses an assignment", { why: what })
    const addressed = Addressed.safeParse(raw)
    if (!addressed.success) return undefined
    const runId = addressed.data.run_id
    if (this.#managers.has(runId)) return runId
    const nowMs = this.#deps.timers.now()
    const reason = { code: "invalid_assignment", message: `The node refused the container: ${what}`.slice(0, 2048) }
    this.#deps.reporter.observe(refusal(runId, reason, nowMs))
    if (addressed.data.desired === "removed") this.#deps.reporter.gone(runId)
    return runId
  }

  #add(manager: RunManager): void {
    this.#managers.set(manager.runId, manager)
    manager.begin()
  }

  #managerDeps(): RunManagerDeps {
    const { reporter, onComplete: _, ...deps } = this.#deps
    return {
      ...deps,
      report: (record) => reporter.observe(observationOf(record)),
      gone: (runId) => {
        this.#managers.delete(runId)
        reporter.gone(runId)
      },
    }
  }
}

const refusal = (runId: RunId, reason: Reason, nowMs: number): Observation => ({
  run_id: runId,
  state: "rejected",
  revision: 1,
  paused: false,
  at_ms: nowMs,
  reason,
  exit: null,
  image_digest: null,
  started_at_ms: null,
  finished_at_ms: nowMs,
  timings: {},
})
