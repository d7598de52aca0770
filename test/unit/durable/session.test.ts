import { describe, expect, it } from "vitest"
import {
  inParts,
  isFresh,
  LATE_ALARM_MS,
  LEASE_MS,
  leaseAt,
  MAX_PART_CHARACTERS,
  mayReceive,
} from "../../../durable/node/session.ts"

const NOW = 1_000_000

describe("a lease", () => {
  it("holds as long as the node was heard within its term", () => {
    expect(leaseAt(NOW, { lastSeenMs: NOW - LEASE_MS + 1, leaseUntilMs: NOW })).toEqual({ kind: "holds", untilMs: NOW + 1 })
  })

  it("lapses when its alarm comes on time and the node was silent", () => {
    expect(leaseAt(NOW, { lastSeenMs: NOW - LEASE_MS, leaseUntilMs: NOW })).toEqual({ kind: "lapsed" })
    expect(leaseAt(NOW + LATE_ALARM_MS, { lastSeenMs: 0, leaseUntilMs: NOW })).toEqual({ kind: "lapsed" })
  })

  it("gets a full term more when the alarm comes late, once", () => {
    const late = NOW + LATE_ALARM_MS + 1
    expect(leaseAt(late, { lastSeenMs: 0, leaseUntilMs: NOW })).toEqual({ kind: "extended", untilMs: late + LEASE_MS })
    expect(leaseAt(late + LEASE_MS, { lastSeenMs: 0, leaseUntilMs: late + LEASE_MS })).toEqual({ kind: "lapsed" })
  })

  it("holds to its armed end though the node was never heard", () => {
    expect(leaseAt(NOW, { lastSeenMs: null, leaseUntilMs: NOW + 5 })).toEqual({ kind: "holds", untilMs: NOW + 5 })
  })
})

describe("a session", () => {
  it("begins with a hello and has only one", () => {
    expect(mayReceive("new", "hello")).toBe(true)
    expect(mayReceive("new", "report")).toBe(false)
    expect(mayReceive("greeting", "hello")).toBe(false)
    expect(mayReceive("open", "report")).toBe(true)
  })

  it("is fresh for three heartbeats", () => {
    expect(isFresh(NOW, NOW - 15_000)).toBe(true)
    expect(isFresh(NOW, NOW - 15_001)).toBe(false)
    expect(isFresh(NOW, null)).toBe(false)
  })
})

const sizes = (items: number[], most: number) =>
  inParts(items, most, (size) => size).map((part) => [part.items.length, part.more])

describe("a set in parts", () => {
  it("is one empty part when it is empty", () => {
    expect(sizes([], 3)).toEqual([[0, false]])
  })
  it("keeps to the most items and to the most characters", () => {
    expect(sizes([1, 1, 1, 1, 1], 2)).toEqual([
      [2, true],
      [2, true],
      [1, false],
    ])
    const half = MAX_PART_CHARACTERS / 2
    expect(sizes([half, half, half], 200)).toEqual([
      [2, true],
      [1, false],
    ])
    expect(sizes([MAX_PART_CHARACTERS * 2, 1], 200)).toEqual([
      [1, true],
      [1, false],
    ])
  })
})
