/**
 * What this node recorded of its runs, one append-only file a run, so that a crash at any line loses nothing that mattered:
 * a line is complete or, torn at the end, as if never written. The last line wins; the assignment is repeated only when it
 * changed, as it may be large. A line on disk costs one fdatasync (about 0.25 ms on the reference machine; a rewrite by
 * rename would cost three times that).
 */
import * as fs from "node:fs"
import { mkdir, open, readdir, readFile, rename, unlink } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { z } from "zod"
import { RunId } from "../../schema/ids.ts"
import { Assignment } from "../../schema/protocol.ts"
import { RunProgress } from "./record.ts"
import type { RunRecord } from "./record.ts"

const SUFFIX = ".jsonl"
/** A run that is paused and resumed all day must not fill the disk: past so many lines the file is rewritten. */
const MAX_LINES = 64

const Line = z.strictObject({ v: z.literal(1), assignment: Assignment.optional(), run: RunProgress })

const fdatasync = promisify(fs.fdatasync)
const fsync = promisify(fs.fsync)

interface Entry {
  lines: number
  assignment: Assignment | null
  next: RunRecord | null
  tail: Promise<void>
}

export interface Loaded {
  readonly records: RunRecord[]
  /** Runs with a file that cannot be read: they were here, and nobody knows how far they came. */
  readonly unreadable: RunId[]
}

export class Journal {
  readonly #dir: string
  readonly #entries = new Map<RunId, Entry>()

  private constructor(dir: string) {
    this.#dir = dir
  }

  static async open(dir: string): Promise<{ journal: Journal; loaded: Loaded }> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const journal = new Journal(dir)
    return { journal, loaded: await journal.#load() }
  }

  /** Resolves when this record, or a newer one of the same run, is on disk. Writes that wait are merged into the newest. */
  write(record: RunRecord): Promise<void> {
    const entry = this.#entry(record.assignment.run_id)
    entry.next = record
    entry.tail = entry.tail.catch(() => {}).then(() => this.#flush(record.assignment.run_id, entry))
    return entry.tail
  }

  /** Forgets a run of which nothing is left. Should a crash bring the file back, the run is removed once more. */
  async forget(runId: RunId): Promise<void> {
    const entry = this.#entries.get(runId)
    await entry?.tail.catch(() => {})
    this.#entries.delete(runId)
    await unlink(this.#path(runId)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error
    })
  }

  #path(runId: RunId): string {
    return join(this.#dir, `${runId}${SUFFIX}`)
  }

  #entry(runId: RunId): Entry {
    const known = this.#entries.get(runId)
    if (known) return known
    const entry: Entry = { lines: 0, assignment: null, next: null, tail: Promise.resolve() }
    this.#entries.set(runId, entry)
    return entry
  }

  async #flush(runId: RunId, entry: Entry): Promise<void> {
    const record = entry.next
    if (record === null) return
    entry.next = null
    try {
      if (entry.lines >= MAX_LINES) await this.#rewrite(runId, entry, record)
      else await this.#append(runId, entry, record)
    } catch (error) {
      entry.next ??= record
      entry.assignment = null
      throw error
    }
  }

  async #append(runId: RunId, entry: Entry, record: RunRecord): Promise<void> {
    const changed = entry.assignment !== record.assignment
    // Opening, writing to the page cache and closing take microseconds; only the sync is worth leaving the thread for.
    const fd = fs.openSync(this.#path(runId), "a", 0o600)
    try {
      fs.writeSync(fd, lineOf(record, changed))
      await fdatasync(fd)
    } finally {
      fs.closeSync(fd)
    }
    if (entry.lines === 0) await this.#syncDir()
    entry.lines += 1
    entry.assignment = record.assignment
  }

  async #rewrite(runId: RunId, entry: Entry, record: RunRecord): Promise<void> {
    const temporary = `${this.#path(runId)}.tmp`
    const file = await open(temporary, "w", 0o600)
    try {
      await file.writeFile(lineOf(record, true))
      await file.datasync()
    } finally {
      await file.close()
    }
    await rename(temporary, this.#path(runId))
    await this.#syncDir()
    entry.lines = 1
    entry.assignment = record.assignment
  }

  async #syncDir(): Promise<void> {
    const fd = fs.openSync(this.#dir, "r")
    try {
      await fsync(fd)
    } finally {
      fs.closeSync(fd)
    }
  }

  async #load(): Promise<Loaded> {
    const loaded: Loaded = { records: [], unreadable: [] }
    for (const name of (await readdir(this.#dir)).toSorted()) {
      if (name.endsWith(".tmp")) await unlink(join(this.#dir, name))
      const id = RunId.safeParse(name.slice(0, -SUFFIX.length))
      if (!name.endsWith(SUFFIX) || !id.success) continue
      const record = fold(await readFile(this.#path(id.data), "utf8"))
      if (record === undefined || record.assignment.run_id !== id.data) {
        loaded.unreadable.push(id.data)
        continue
      }
      loaded.records.push(record)
      // A torn end must not glue itself to the next line: the first write after a restart starts the file afresh.
      this.#entry(id.data).lines = MAX_LINES
    }
    return loaded
  }
}

function lineOf(record: RunRecord, withAssignment: boolean): string {
  const { assignment, ...run } = record
  return `${JSON.stringify(withAssignment ? { v: 1, assignment, run } : { v: 1, run })}\n`
}

/** The last complete line over the last assignment before it; undefined when there is none. */
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
