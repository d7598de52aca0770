/**
 * A run's record in memory, in the journal and on its way to the platform. Each change is written and, when it is news, reported;
 * a disk that is full makes nothing wrong by itself: what must not be lost (`verbs.ts`) asks by `written`, the rest is
 * written by `save` when there is space again.
 */
import type { Journal } from "./journal.ts"
import type { RunRecord } from "./record.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"

export interface KeptRecordDeps {
  readonly journal: Pick<Journal, "write" | "forget">
  readonly log: Log
  /** The record changed in a way that others should hear of. */
  readonly report: (record: RunRecord) => void
}

export class KeptRecord {
  readonly #deps: KeptRecordDeps
  #now: RunRecord
  #saved: RunRecord | null

  /** `saved`: it comes from the journal. */
  constructor(deps: KeptRecordDeps, record: RunRecord, saved: boolean) {
    this.#deps = deps
    this.#now = record
    this.#saved = saved ? record : null
  }

  get now(): RunRecord {
    return this.#now
  }

  /** The run as its manager takes it to be. */
  become(record: RunRecord): void {
    const news = record.revision !== this.#now.revision
    this.#now = record
    if (news) this.#deps.report(record)
    this.save()
  }

  save(): void {
    try {
      this.written()
    } catch (error) {
      this.#deps.log.error("could not write a run's journal", { run: this.#now.assignment.run_id, error: explain(error) })
    }
  }

  /** Returns when the record as it is now would survive this process. Throws when it cannot be written. */
  written(): void {
    if (this.#saved === this.#now) return
    this.#deps.journal.write(this.#now)
    this.#saved = this.#now
  }
}
