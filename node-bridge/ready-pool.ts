/**
 * Things made ahead of need, for the next runs. A saving and never a queue: whoever finds it empty makes one on the spot. It
 * refills when nothing was taken for a while, for starts in flight come first.
 */
import { setTimeout as delay } from "node:timers/promises"

/** The pool refills when nothing was taken for so long. */
const QUIET_MS = 500
/** Between two things of a refill, so that it never holds the thread for longer than one. */
const REFILL_GAP_MS = 5

export class ReadyPool<T> {
  readonly #size: number
  readonly #make: () => T | Promise<T>
  readonly #whenQuiet: () => Promise<void>
  readonly #idle: T[] = []
  #refilling: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  #closed = false

  /** `whenQuiet`: what refills the pool, where its owner has more to do then. */
  constructor(size: number, make: () => T | Promise<T>, whenQuiet = () => this.refill()) {
    this.#size = size
    this.#make = make
    this.#whenQuiet = whenQuiet
  }

  add(made: T): void {
    this.#idle.push(made)
  }

  /** Undefined when none is ready. */
  take(): T | undefined {
    this.#refillWhenQuiet()
    return this.#idle.shift()
  }

  /** Rejects when one could not be made; what was made before is kept. */
  refill(): Promise<void> {
    this.#refilling ??= this.#fill().finally(() => {
      this.#refilling = null
    })
    return this.#refilling
  }

  /** Answers what nobody took, once nothing more is made. */
  async close(): Promise<T[]> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#refilling?.catch(() => {}) // whoever asked for it has heard
    return this.#idle.splice(0)
  }

  async #fill(): Promise<void> {
    while (!this.#closed && this.#idle.length < this.#size) {
      this.#idle.push(await this.#make())
      await delay(REFILL_GAP_MS)
    }
  }

  #refillWhenQuiet(): void {
    if (this.#timer !== null) {
      this.#timer.refresh()
      return
    }
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#whenQuiet().catch(() => {
        // The next take makes its own, and that one tells why it failed.
      })
    }, QUIET_MS)
    this.#timer.unref()
  }
}
