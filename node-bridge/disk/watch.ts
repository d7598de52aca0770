/**
 * Looks at the disks of live runs and at the host's own every few seconds: some 50 µs for each run. A run whose disk filled up
 * is told once for each filling; what fills and empties between two looks is not seen. Of a disk that hangs nothing is told, and
 * the looks at the others go on.
 */
import type { RunId } from "../../schema/ids.ts"
import type { NodeCondition } from "../../schema/node.ts"
import type { Notice } from "../../schema/protocol.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import type { ProcessIdentity } from "../runtime/process-identity.ts"
import { diskPressure } from "./capacity.ts"
import { look, sentence } from "./fill.ts"
import type { Fill } from "./fill.ts"
import { patience } from "./patience.ts"
import { spaceOf, usageOf } from "./space.ts"

/** A thousand runs cost one percent of one processor. */
const LOOK_EVERY_MS = 5_000

export interface DiskWatchOptions {
  readonly stateDir: string
  readonly log: Log
  readonly notice: (notice: Omit<Notice, "id">) => void
  /** The host's own disk began to be short of space, or is no more. */
  readonly condition: (condition: NodeCondition | null) => void
  readonly everyMs?: number
}

interface Watched {
  readonly process: ProcessIdentity
  fill: Fill
}

export class DiskWatch {
  readonly #options: DiskWatchOptions
  readonly #runs = new Map<RunId, Watched>()
  readonly #timer: NodeJS.Timeout
  #pressed = false
  #looking: Promise<void> | null = null

  constructor(options: DiskWatchOptions) {
    this.#options = options
    this.#timer = setInterval(() => void this.look(), options.everyMs ?? LOOK_EVERY_MS)
    this.#timer.unref()
  }

  /** `process` is one of the run's, whose root is the run's disk. A bridge that takes a run over tells of a full disk again. */
  add(runId: RunId, process: ProcessIdentity): void {
    this.#runs.set(runId, { process, fill: { full: null } })
  }

  remove(runId: RunId): void {
    this.#runs.delete(runId)
  }

  /** One round; rounds never overlap. */
  look(): Promise<void> {
    this.#looking ??= this.#round()
      .catch((error: unknown) => this.#options.log.warn("could not look at the disks", { error: explain(error) }))
      .finally(() => {
        this.#looking = null
      })
    return this.#looking
  }

  close(): void {
    clearInterval(this.#timer)
    this.#runs.clear()
  }

  async #round(): Promise<void> {
    await this.#lookAtHost()
    for (const [runId, watched] of this.#runs) {
      const usage = await usageOf(watched.process)
      if (usage === null || !this.#runs.has(runId)) continue
      const { fill, news } = look(watched.fill, usage)
      watched.fill = fill
      if (!news || fill.full === null) continue
      const reason = { code: "disk_full", message: sentence(fill.full, usage) }
      this.#options.notice({ run_id: runId, kind: "disk_full", at_ms: Date.now(), reason })
    }
  }

  async #lookAtHost(): Promise<void> {
    const space = await patience.ask("the host's disk", () => spaceOf(this.#options.stateDir))
    if (space === null) return // the next look may know
    const found = diskPressure(space, this.#pressed)
    if ((found !== null) === this.#pressed) return
    this.#pressed = found !== null
    this.#options.log.warn(this.#pressed ? "the disk is nearly full: takes no new containers" : "the disk has space again", {})
    this.#options.condition(found)
  }
}
