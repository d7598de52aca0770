import { describe, expect, it } from "vitest"
import { backoffMs, failuresAfter } from "../../../node-bridge/agent/backoff.ts"

const after = (...ends: { wasOpen: boolean; livedMs: number }[]) => ends.reduce(failuresAfter, 0)

describe("back-off", () => {
  it("doubles from a tenth of a second to fifteen, and spreads over the upper half", () => {
    expect([1, 2, 3, 8, 9, 99].map((failures) => backoffMs(failures, 0.999_999))).toEqual(
      [100, 200, 400, 12_800, 15_000, 15_000].map((ms) => expect.closeTo(ms, 0)),
    )
    expect(backoffMs(3, 0)).toBe(200)
  })

  const refused = { wasOpen: false, livedMs: 10 }
  const cutShort = { wasOpen: true, livedMs: 3_000 }
  const healthy = { wasOpen: true, livedMs: 60_000 }

  it.each([
    ["a platform that lets nobody in", Array.from({ length: 12 }, () => refused), 15_000],
    ["a platform that went down six times in a row", Array.from({ length: 6 }, () => cutShort), 1_600],
    ["a session cut short after a long time away", [...Array.from({ length: 12 }, () => refused), cutShort], 1_600],
    ["a healthy session after a long time away", [...Array.from({ length: 12 }, () => refused), healthy], 100],
    ["a session that lived long and was never let in", [refused, refused, { wasOpen: false, livedMs: 60_000 }], 400],
  ])("after %s", (_, ends, mostMs) => {
    expect(backoffMs(after(...ends), 0.999_999)).toBeCloseTo(mostMs, 0)
  })
})
