/** Time that passes only when a test says so. */
import type { Timers } from "../../node-bridge/timers.ts"

export class ManualTimers implements Timers {
  #now = 1_760_000_000_000
  #waiting: { readonly at: number; readonly callback: () => void }[] = []

  now(): number {
    return this.#now
  }
  boottime(): number {
    return this.#now
  }
  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + Math.max(ms, 0), callback }
    this.#waiting.push(timer)
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== timer)
    }
  }
  get armed(): number {
    return this.#waiting.length
  }
  /** The next time at which something happens by itself. */
  get nextAt(): number | undefined {
    return this.#waiting.length === 0 ? undefined : Math.min(...this.#waiting.map(({ at }) => at))
  }

  /** Passes time, calling back in order. */
  advance(ms: number): void {
    const until = this.#now + ms
    for (;;) {
      const due = this.#waiting.filter(({ at }) => at <= until).toSorted((a, b) => a.at - b.at)[0]
      if (!due) break
      this.#waiting = this.#waiting.filter((other) => other !== due)
      this.#now = Math.max(this.#now, due.at)
      due.callback()
    }
    this.#now = until
  }

  /** The machine slept: the clock went on, and no timer fired. */
  sleep(ms: number): void {
    this.#now += ms
  }
}
