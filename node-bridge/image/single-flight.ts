/**
 * One piece of work for all who ask for the same thing at once. Each waiter may leave by its own signal; the work itself is
 * given up only when the last one has left.
 */
import { unlessAborted } from "../unless-aborted.ts"

interface Flight<T> {
  readonly result: Promise<T>
  readonly abort: AbortController
  waiters: number
}

export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>()

  /** Joins the work on `key`, or begins it. Rejects with the signal's reason when that aborts first. */
  async join(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    const flight = this.#flights.get(key) ?? this.#begin(key, work)
    flight.waiters++
    try {
      return await unlessAborted(flight.result, signal)
    } finally {
      flight.waiters--
      if (flight.waiters === 0) {
        // Whoever comes after the last waiter left begins anew: this one is on its way down.
        if (this.#flights.get(key) === flight) this.#flights.delete(key)
        flight.abort.abort(new Error("nobody waits for it any more"))
      }
    }
  }

  #begin(key: string, work: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const abort = new AbortController()
    const result = work(abort.signal)
    const flight: Flight<T> = { result, abort, waiters: 0 }
    this.#flights.set(key, flight)
    const ended = () => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
    }
    result.then(ended, ended)
    return flight
  }
}
