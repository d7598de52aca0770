import { describe, expect, it } from "vitest"
import { SingleFlight } from "../../../node-bridge/image/single-flight.ts"

const fail = () => Promise.reject(new Error("no"))
const never = () => new AbortController().signal

describe("work that many ask for", () => {
  it("is done once for all who ask at the same time, and again for the next", async () => {
    const flights = new SingleFlight<number>()
    let runs = 0
    const work = () => Promise.resolve(++runs)
    expect(await Promise.all([flights.join("a", never(), work), flights.join("a", never(), work)])).toEqual([1, 1])
    expect(await flights.join("a", never(), work)).toBe(2)
    expect(await flights.join("b", never(), work)).toBe(3)
  })

  it("goes on when one of two leaves", async () => {
    const flights = new SingleFlight<string>()
    const work = Promise.withResolvers<string>()
    const leaver = new AbortController()
    let given: AbortSignal | undefined
    const start = (signal: AbortSignal) => {
      given = signal
      return work.promise
    }
    const gone = flights.join("a", leaver.signal, start)
    const stays = flights.join("a", never(), start)
    leaver.abort(new Error("not any more"))
    await expect(gone).rejects.toThrow("not any more")
    expect(given?.aborted).toBe(false)
    work.resolve("done")
    expect(await stays).toBe("done")
  })

  it("is given up when the last has left, and begun anew for who comes then", async () => {
    const flights = new SingleFlight<string>()
    const leaver = new AbortController()
    let first: AbortSignal | undefined
    const gone = flights.join("a", leaver.signal, (signal) => {
      first = signal
      return new Promise(() => {})
    })
    leaver.abort(new Error("not any more"))
    await expect(gone).rejects.toThrow("not any more")
    expect(first?.aborted).toBe(true)
    expect(await flights.join("a", never(), () => Promise.resolve("anew"))).toBe("anew")
  })

  it("fails for all alike, and is not remembered", async () => {
    const flights = new SingleFlight<string>()
    const results = await Promise.allSettled([flights.join("a", never(), fail), flights.join("a", never(), fail)])
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"])
    expect(await flights.join("a", never(), () => Promise.resolve("yes"))).toBe("yes")
  })
})
