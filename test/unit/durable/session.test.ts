import { describe, expect, it } from "vitest"
import {
  costOf,
  fullBudget,
  inParts,
  isFresh,
  LATE_ALARM_MS,
  LEASE_MS,
  leaseAt,
  MAX_PART_CHARACTERS,
  mayReceive,
  spend,
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

describe("what a node may say", () => {
  it("is much at once, and comes back with time", () => {
    let budget = fullBudget(NOW)
    let said = 0
    for (let next = spend(budget, 1, NOW); next; next = spend(budget, 1, NOW)) {
      budget = next
      said++
    }
    expect(said).toBe(5_000)
    expect(spend(budget, 1, NOW)).toBeUndefined()
    expect(spend(budget, 1_000, NOW + 1_000)).toEqual({ units: 0, atMs: NOW + 1_000 })
    expect(spend(budget, 1_001, NOW + 1_000)).toBeUndefined()
    expect(spend(budget, 5_001, NOW + 3_600_000)).toBeUndefined()
  })

  it("is not widened by a clock that goes back", () => {
    const spent = spend(fullBudget(NOW), 5_000, NOW)
    if (!spent) throw new Error("too little to begin with")
    expect(spend(spent, 1, NOW - 60_000)).toBeUndefined()
  })

  it("costs more the larger it is, and the more follows from it", () => {
    expect(costOf("command_result", 10)).toBe(1)
    expect(costOf("command_result", 40_960)).toBe(11)
    expect(costOf("facts", 10)).toBeGreaterThan(10)
    expect(costOf("condition", 10)).toBeGreaterThan(10)
  })
})
