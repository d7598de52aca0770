/** Looks at the host's memory every few seconds: two small files of /proc. */
import { readFileSync } from "node:fs"
import type { NodeCondition } from "../../schema/node.ts"
import type { Log } from "../log.ts"
import { memoryPressure, parseMemory } from "./memory.ts"

const LOOK_EVERY_MS = 5_000

export interface MemoryWatchOptions {
  readonly log: Log
  /** Called when it begins and when it ends. */
  readonly changed: (condition: NodeCondition | null) => void
}

export class MemoryWatch {
  readonly #options: MemoryWatchOptions
  readonly #timer: NodeJS.Timeout
  #pressed = false

  constructor(options: MemoryWatchOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS)
    this.#timer.unref()
    this.#look()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const memory = parseMemory(textOf("/proc/meminfo") ?? "", textOf("/proc/pressure/memory"))
    if (memory === undefined) return // the next look may know
    const found = memoryPressure(memory, this.#pressed)
    if ((found !== null) === this.#pressed) return
    this.#pressed = found !== null
    this.#options.log.warn(found ? "memory is nearly used up: takes no new containers" : "there is memory again", {})
    this.#options.changed(found)
  }
}

/** Kernels without pressure stall information have no such file, or refuse to open it. */
function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return null
  }
}
