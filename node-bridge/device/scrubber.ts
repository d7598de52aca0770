/**
 * Which devices were used since they were last scrubbed, on disk before the run that uses them starts: a crash at any line,
 * of the bridge or of the host, ends in one scrub too many and never in one too few. The operator's command is run with the
 * device's name as its one argument; until it ends with 0 nobody gets the device.
 */
import { mkdirSync, readFileSync } from "node:fs"
import { open, rename } from "node:fs/promises"
import { dirname } from "node:path"
import { z } from "zod"
import { DeviceName } from "../../schema/container.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { exec } from "../runtime/exec.ts"

/** Overwriting the memory of the largest accelerators takes a minute or two. */
const SCRUB_TIMEOUT_MS = 600_000
const FIRST_RETRY_MS = 5_000
const LONGEST_RETRY_MS = 300_000
const MAX_REASON_CHARS = 200

const Dirty = z.strictObject({ dirty: z.array(DeviceName) })

export interface ScrubberOptions {
  /** Null: nothing is ever dirty. */
  readonly command: string | null
  readonly file: string
  readonly log: Log
  /** A device became clean, or a try failed. */
  readonly changed: () => void
  readonly retryMs?: number
}

export class Scrubber {
  readonly #options: ScrubberOptions
  /** With why the last try failed; null: none failed. */
  readonly #dirty = new Map<string, string | null>()
  readonly #underWay = new Set<string>()
  readonly #end = new AbortController()
  #writing: Promise<void> = Promise.resolve()

  /** Throws when the record cannot be read: what it says of the devices must not be guessed. */
  constructor(options: ScrubberOptions) {
    this.#options = options
    if (options.command === null) return
    mkdirSync(dirname(options.file), { recursive: true })
    for (const name of readDirty(options.file)) this.#dirty.set(name, null)
  }

  get dirty(): ReadonlyMap<string, string | null> {
    return this.#dirty
  }

  /** Returns when it is on disk that these will be in use. */
  async use(names: readonly string[]): Promise<void> {
    if (this.#options.command === null) return
    for (const name of names) this.#dirty.set(name, null)
    await this.#write()
  }

  /** Nobody uses it any more. */
  scrub(name: string): void {
    const { command, log } = this.#options
    if (command === null || this.#underWay.has(name) || !this.#dirty.has(name)) return
    this.#underWay.add(name)
    this.#untilClean(name, command)
      .catch((error: unknown) => {
        if (!this.#end.signal.aborted) log.error("a device stays unscrubbed", { device: name, error: explain(error) })
      })
      .finally(() => this.#underWay.delete(name))
  }

  async #untilClean(name: string, command: string): Promise<void> {
    let retryMs = this.#options.retryMs ?? FIRST_RETRY_MS
    for (;;) {
      const failed = await this.#once(name, command)
      if (failed === null) break
      this.#options.log.error("a device could not be scrubbed", { device: name, why: failed })
      this.#dirty.set(name, failed)
      this.#options.changed()
      await this.#sleep(retryMs)
      retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS)
    }
    this.#dirty.delete(name)
    await this.#write()
    this.#options.changed()
  }

  /** Null: it is clean. */
  async #once(name: string, command: string): Promise<string | null> {
    try {
      const { code, stderr } = await exec(command, [name], {
        timeoutMs: SCRUB_TIMEOUT_MS,
        cwd: "/",
        signal: this.#end.signal,
      })
      const said = stderr.trim().split("\n").at(-1) ?? ""
      return code === 0 ? null : `the command ended with ${code ?? "a signal"} ${said}`.trim().slice(0, MAX_REASON_CHARS)
    } catch (error) {
      this.#end.signal.throwIfAborted()
      return explain(error).slice(0, MAX_REASON_CHARS)
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms)
      timer.unref()
      this.#end.signal.addEventListener("abort", () => (clearTimeout(timer), reject(this.#end.signal.reason as Error)))
    })
  }

  /** One after the other, each with all that is known by then. */
  #write(): Promise<void> {
    const write = async () => {
      const path = `${this.#options.file}.new`
      const file = await open(path, "w", 0o600)
      try {
        await file.writeFile(JSON.stringify({ dirty: [...this.#dirty.keys()] }))
        await file.datasync()
      } finally {
        await file.close()
      }
      await rename(path, this.#options.file)
    }
    this.#writing = this.#writing.then(write, write)
    return this.#writing
  }

  /** What is being scrubbed is scrubbed again by the next bridge. */
  async close(): Promise<void> {
    this.#end.abort(new Error("the bridge ends"))
    await this.#writing.catch(() => {})
  }
}

function readDirty(file: string): readonly string[] {
  try {
    return Dirty.parse(JSON.parse(readFileSync(file, "utf8"))).dirty
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return []
    throw new Error(`${file} cannot be read: which devices need a scrub is not known. Scrub all, then remove it.`, {
      cause: error,
    })
  }
}
