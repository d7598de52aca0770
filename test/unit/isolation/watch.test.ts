import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { IsolationWatch } from "../../../node-bridge/isolation/watch.ts"
import { anId } from "../../support/assignments.ts"

const runId = anId("run")
let told: (readonly string[])[]
/** What each look finds, in turn; the last one for good. */
let finds: string[][]
let looks: number
let watch: IsolationWatch

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] })
  told = []
  looks = 0
  watch = new IsolationWatch({
    look: () => Promise.resolve(finds[Math.min(looks++, finds.length - 1)] ?? []),
    deviated: (_runId, deviations) => void told.push(deviations),
    log: { info: () => {}, warn: () => {}, error: () => {} },
  })
})
afterEach(() => {
  watch.close()
  vi.useRealTimers()
})

describe("the watch over isolation", () => {
  it("tells nothing of what one look found and the next did not", async () => {
    finds = [["the interface eth0 is seen"], []]
    watch.add(runId)
    await vi.advanceTimersByTimeAsync(300_000)
    expect(looks).toBeGreaterThan(4)
    expect(told).toEqual([])
  })

  it("tells within two seconds of its start what a run has from the beginning, and once", async () => {
    finds = [["/sys is not mounted ro"]]
    watch.add(runId)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(told).toEqual([["/sys is not mounted ro"]])
    await vi.advanceTimersByTimeAsync(300_000)
    expect(told).toHaveLength(1)
  })

  it("tells of what was confirmed alone", async () => {
    finds = [["/sys is not mounted ro"], ["/sys is not mounted ro", "the interface eth0 is seen"], ["/sys is not mounted ro"]]
    watch.add(runId)
    await vi.advanceTimersByTimeAsync(300_000)
    expect(told).toEqual([["/sys is not mounted ro"]])
  })

  it("looks at no run that is gone", async () => {
    finds = [["/sys is not mounted ro"]]
    watch.add(runId)
    await vi.advanceTimersByTimeAsync(1_100)
    watch.remove(runId)
    await vi.advanceTimersByTimeAsync(300_000)
    expect(told).toEqual([])
  })
})
