/** Milliseconds by the step's name, in order, for the trail of a start that tenants see. */
import type { Timings } from "../../schema/protocol.ts"

export class Stopwatch {
  readonly #timings: Record<string, number> = {}

  async time<T>(step: string, work: () => Promise<T>): Promise<T> {
    const from = performance.now()
    try {
      return await work()
    } finally {
      this.#timings[step] = Math.round((performance.now() - from) * 100) / 100
    }
  }

  get timings(): Timings {
    return { ...this.#timings }
  }
}
