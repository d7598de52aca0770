/**
 * The one owner of an object's one alarm. Each concern offers `nextWake()`; the alarm goes off at the earliest.
 *
 * `setAlarm` is a durable write, so an alarm that is set earlier than needed is left as it is: it goes off, finds nothing due
 * and is set anew. An alarm handler that throws is tried seven times and then dropped without a word, and everything that
 * waits for it with it; so nothing ever leaves `fire`, and the alarm is always set again.
 */
import type { Clock } from "./ports.ts"

/** A concern's next wake-up in Unix milliseconds; null when it waits for nothing. */
export type NextWake = () => number | null

/** After a failed handler, and between two handlers at the least: a concern that stays due must not spin. */
const RETRY_MS = 1_000
const LEAST_MS = 20

export class Alarms {
  readonly #storage: DurableObjectStorage
  readonly #clock: Clock
  readonly #concerns: readonly NextWake[]
  #setFor: number | null = null

  constructor(storage: DurableObjectStorage, clock: Clock, concerns: readonly NextWake[]) {
    this.#storage = storage
    this.#clock = clock
    this.#concerns = concerns
  }

  /** Once, before anything else: what an earlier life of this object has set. */
  async load(): Promise<void> {
    this.#setFor = await this.#storage.getAlarm()
  }

  /** Sees to it that the alarm goes off no later than `atMs`. */
  atLatest(atMs: number | null): void {
    if (atMs === null || (this.#setFor !== null && this.#setFor <= atMs)) return
    this.#setFor = atMs
    this.#storage.setAlarm(atMs).catch((error: unknown) => {
      this.#setFor = null
      console.error("setting the alarm failed", error)
    })
  }

  /** The whole of an object's `alarm()`. */
  async fire(work: () => Promise<void>): Promise<void> {
    this.#setFor = null
    let least = LEAST_MS
    try {
      await work()
    } catch (error) {
      least = RETRY_MS
      console.error("the alarm's work failed and will be tried again", error)
    }
    try {
      const wakes = this.#concerns.map((nextWake) => nextWake()).filter((at) => at !== null)
      if (wakes.length > 0) this.atLatest(Math.max(Math.min(...wakes), this.#clock.now() + least))
    } catch (error) {
      console.error("finding the next alarm failed", error)
      this.atLatest(this.#clock.now() + RETRY_MS)
    }
  }
}
