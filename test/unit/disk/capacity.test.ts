import { describe, expect, it } from "vitest"
import { diskPressure, promisable } from "../../../node-bridge/disk/capacity.ts"

const GIB = 1024 ** 3
const aDisk = (freeBytes: number) => ({ totalBytes: 20 * GIB, freeBytes })

describe("what a node may promise of its disk", () => {
  it("is what is free less a tenth", () => {
    expect(promisable(aDisk(60 * GIB), 0, 1)).toBe(54 * GIB)
  })

  it("does not shrink when a bridge starts among runs that have written", () => {
    expect(promisable(aDisk(40 * GIB), 20 * GIB, 1)).toBe(promisable(aDisk(60 * GIB), 0, 1))
  })

  it("is so many times more when the operator bets on it", () => {
    expect(promisable(aDisk(60 * GIB), 0, 2.5)).toBe(135 * GIB)
  })

  it("is never nothing, for a capacity is a positive number", () => {
    expect(promisable(aDisk(0), 0, 1)).toBeGreaterThan(0)
  })
})

describe("the condition of a node's disk", () => {
  it("lets runs come while a twentieth is free", () => {
    expect(diskPressure(aDisk(GIB), false)).toBeNull()
    expect(diskPressure(aDisk(GIB - 1), false)).toMatchObject({ kind: "disk_pressure" })
  })

  it("ends only well above where it began", () => {
    expect(diskPressure(aDisk(1.2 * GIB), true)).not.toBeNull()
    expect(diskPressure(aDisk(1.25 * GIB), true)).toBeNull()
  })

  it("keeps no more than two GiB back of a large disk", () => {
    expect(diskPressure({ totalBytes: 10_000 * GIB, freeBytes: 2 * GIB }, false)).toBeNull()
  })
})
