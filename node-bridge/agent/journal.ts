/**
 * What this node recorded of its runs: one append-only file a run, the last line wins, the assignment is repeated only when
 * it changed, as it may be large.
 *
 * Lines are not synced to disk, on purpose. When the bridge dies, even by SIGKILL, what it wrote is in the kernel's hands
 * and the next bridge reads it. Only a crash of the whole host can lose lines, and then every process is gone as well: what
 * must not happen is that a run is started again because its lines were lost. So the journal says durably in which boot it
 * was written, and after another one every run that is not known to have ended counts as one that may have run. A sync on
 * every start instead would buy nothing more, and was seen to cost 0.25 ms on a quiet disk and 40 ms beside an image pull.
 */
import { appendFileSync, renameSync, writeFileSync } from "node:fs"
import { mkdir, open, readdir, readFile, unlink } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { RunId } from "../../schema/ids.ts"
import { Assignment } from "../../schema/protocol.ts"
import { RunProgress } from "./record.ts"
import type { RunRecord } from "./record.ts"

const SUFFIX = ".jsonl"
const BOOT_FILE = "boot"
/** A run that is paused and resumed all day must not fill the disk: past so many lines the file is rewritten. */
const MAX_LINES = 64

const Line = z.strictObject({ v: z.literal(1), assignment: Assignment.optional(), run: RunProgress })

interface Entry {
  lines: number
  assignment: Assignment | null
}

export interface Loaded {
  readonly records: RunRecord[]
  /** Runs with a file that cannot be read: they were here, and nobody knows how far they came. */
  readonly unreadable: RunId[]
  /** The host restarted since the journal was last known to be whole: runs that it does not name may have run. */
  readonly incomplete: boolean
}

export class Journal {
  readonly #dir: string
  readonly #bootId: string
  readonly #entries = new Map<RunId, Entry>()

  private constructor(dir: string, bootId: string) {
    this.#dir = dir
    this.#bootId = bootId
  }

  static async open(dir: string, bootId: string): Promise<{ journal: Journal; loaded: Loaded }> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const journal = new Journal(dir, bootId)
    const lastBoot = await readFile(join(dir, BOOT_FILE), "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error
    })
    if (lastBoot === undefined) await journal.whole()
    const incomplete = lastBoot !== undefined && lastBoot !== bootId
    return { journal, loaded: { ...(await journal.#load()), incomplete } }
  }

  /** Says durably that all runs of this boot are in the journal: those that an earlier boot may have lost are dealt with. */
  async whole(): Promise<void> {
    const path = join(this.#dir, BOOT_FILE)
    const file = await open(`${path}.tmp`, "w", 0o600)
    try {
      await file.writeFile(this.#bootId)
      await file.datasync()
    } finally {
      await file.close()
    }
    renameSync(`${path}.tmp`, path)
    const dir = await open(this.#dir, "r")
    await dir.sync().finally(() => dir.close())
  }

  /** Returns when the record will survive this process. Throws when it will not: the disk is full, say. */
  write(record: RunRecord): void {
    const runId = record.assignment.run_id
    const entry = this.#entries.get(runId) ?? { lines: 0, assignment: null }
    this.#entries.set(runId, entry)
    const path = this.#path(runId)
    if (entry.lines < MAX_LINES) {
      // Should the line be torn, nothing may be appended to it: the next write starts the file afresh.
      const lines = entry.lines + 1
      entry.lines = MAX_LINES
      appendFileSync(path, lineOf(record, entry.assignment !== record.assignment), { mode: 0o600 })
      entry.lines = lines
    } else {
      writeFileSync(`${path}.tmp`, lineOf(record, true), { mode: 0o600 })
      renameSync(`${path}.tmp`, path)
      entry.lines = 1
    }
    entry.assignment = record.assignment
  }

  /** Forgets a run of which nothing is left. Should a crash bring the file back, the run is removed once more. */
  async forget(runId: RunId): Promise<void> {
    this.#entries.delete(runId)
    await unlink(this.#path(runId)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error
    })
  }

  #path(runId: RunId): string {
    return join(this.#dir, `${runId}${SUFFIX}`)
  }

  async #load(): Promise<Omit<Loaded, "incomplete">> {
    const loaded = { records: [] as RunRecord[], unreadable: [] as RunId[] }
    for (const name of (await readdir(this.#dir)).toSorted()) {
      if (name.endsWith(".tmp")) await unlink(join(this.#dir, name))
      const id = RunId.safeParse(name.slice(0, -SUFFIX.length))
      if (!name.endsWith(SUFFIX) || !id.success) continue
      // What follows the last whole line may be torn: the first write of this bridge starts the file afresh.
      this.#entries.set(id.data, { lines: MAX_LINES, assignment: null })
      const record = fold(await readFile(this.#path(id.data), "utf8"))
      if (record?.assignment.run_id === id.data) loaded.records.push(record)
      else loaded.unreadable.push(id.data)
    }
    return loaded
  }
}

function lineOf(record: RunRecord, withAssignment: boolean): string {
  const { assignment, ...run } = record
  return `${JSON.stringify(withAssignment ? { v: 1, assignment, run } : { v: 1, run })}\n`
}

/** The last whole line over the last assignment before it; undefined when there is none. */
function fold(text: string): RunRecord | undefined {
  let assignment: Assignment | undefined
  let record: RunRecord | undefined
  for (const line of text.split("\n").slice(0, -1)) {
    const parsed = Line.safeParse(parseJson(line))
    if (!parsed.success) return undefined
    assignment = parsed.data.assignment ?? assignment
    if (assignment) record = { ...parsed.data.run, assignment }
  }
  return record
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
