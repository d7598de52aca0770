import { describe, expect, it } from "vitest"
import { backoffMs } from "../../../node-bridge/agent/backoff.ts"

describe("back-off", () => {
  it("doubles from a tenth of a second to fifteen, and spreads over the upper half", () => {
    expect([1, 2, 3, 8, 9, 99].map((failures) => backoffMs(failures, 0.999_999))).toEqual(
      [100, 200, 400, 12_800, 15_000, 15_000].map((ms) => expect.closeTo(ms, 0)),
    )
    expect(backoffMs(3, 0)).toBe(200)
  })
})
