/**
 * One clock for everything under test: hosts take their timers from it, the objects their `Date`. It begins far in the future,
 * so that no alarm of an object ever goes off by itself: the platform's alarms know real time only, and are fired by hand.
 */
import { vi } from "vitest"
import type { Timers } from "../../../node-bridge/timers.ts"

const BEGIN = Date.UTC(2100, 0, 1)

interface Timer {
  readonly at: number
  readonly order: number
  callback: (() => void) | null
}

/** How a host's clocks differ from the true one. */
export interface Skew {
  /** Of its wall clock, milliseconds. */
  readonly offsetMs: number
  /** Its seconds in a true second, for timers and boot time. */
  readonly rate: number
}

export class VirtualTime {
  #now = BEGIN
  #order = 0
  /** A heap, the earliest first. */
  readonly #heap: Timer[] = []
  /** Real times at which virtual ones began, oldest first: the platform stamps heartbeats by its own, real clock. */
  readonly #began: { real: number; virtual: number }[] = []

  constructor() {
    vi.useFakeTimers({ toFake: ["Date"], now: BEGIN })
    this.#mark()
  }

  end(): void {
    vi.useRealTimers()
  }

  now(): number {
    return this.#now
  }
  /** Seconds since the beginning. */
  get elapsed(): number {
    return (this.#now - BEGIN) / 1000
  }

  /** As setTimeout: in whole milliseconds, one at the least. */
  after(ms: number, callback: () => void): () => void {
    const timer: Timer = { at: this.#now + Math.max(Math.ceil(ms), 1), order: this.#order++, callback }
    this.#push(timer)
    return () => {
      timer.callback = null
    }
  }

  /** Passes time, calling back in order. */
  advance(ms: number): void {
    const until = this.#now + ms
    for (let first = this.#heap[0]; first !== undefined && first.at <= until; first = this.#heap[0]) {
      this.#pop()
      if (first.callback === null) continue
      this.#set(Math.max(this.#now, first.at))
      first.callback()
    }
    this.#set(until)
    this.#mark()
  }

  /** The virtual time at which this real one was. */
  virtualAt(real: number): number {
    const began = this.#began.findLast((mark) => mark.real <= real)
    return began?.virtual ?? BEGIN
  }

  /** A host's own clocks. */
  of(skew: Skew): Timers {
    const from = this.#now
    return {
      now: () => Math.round(this.#now + skew.offsetMs),
      boottime: () => Math.round((this.#now - from) * skew.rate),
      after: (ms, callback) => this.after(ms / skew.rate, callback),
    }
  }

  #set(now: number): void {
    if (now === this.#now) return
    this.#now = now
    vi.setSystemTime(now)
  }

  #mark(): void {
    this.#began.push({ real: vi.getRealSystemTime(), virtual: this.#now })
  }

  #push(timer: Timer): void {
    const heap = this.#heap
    let i = heap.push(timer) - 1
    while (i > 0) {
      const up = (i - 1) >> 1
      const parent = heap[up]
      if (parent === undefined || !before(timer, parent)) break
      heap[i] = parent
      i = up
    }
    heap[i] = timer
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let i = 0
    for (;;) {
      const [left, right] = [2 * i + 1, 2 * i + 2]
      const [a, b] = [heap[left], heap[right]]
      if (a === undefined) break
      const [least, at] = b !== undefined && before(b, a) ? [b, right] : [a, left]
      if (!before(least, last)) break
      heap[i] = least
      i = at
    }
    heap[i] = last
  }
}

const before = (a: Timer, b: Timer) => a.at < b.at || (a.at === b.at && a.order < b.order)
