import { expect, test } from "vitest"
import { budgetAt, fullBudget } from "../../../node-bridge/runtime/log-budget.ts"
import type { LogBudget } from "../../../node-bridge/runtime/log-budget.ts"

const RATE = 100_000

/** A writer with this much to write, at `speed` bytes a second while it may: when it is done, and how it was looked at. */
function write(bytes: number, speed: number, rate = RATE) {
  let budget: LogBudget = fullBudget(rate, 0, 0)
  let nowMs = 0
  let written = 0
  let looks = 0
  let told = 0
  let stopped = 0
  while (written < bytes && looks < 100_000) {
    if (!budget.waits) written = Math.min(bytes, written + (speed * budget.lookMs) / 1_000)
    nowMs += budget.lookMs
    const seen = budgetAt(budget, rate, written, nowMs)
    if (seen.news) told++
    if (seen.budget.waits) stopped++
    budget = seen.budget
    looks++
  }
  return { seconds: nowMs / 1_000, looks, told, stopped, budget }
}

test.each([
  ["a little too fast", 150_000],
  ["a thousand times too fast", 100_000_000],
])("a writer that is %s gets its rate over time, and is told of once", (_, speed) => {
  const { seconds, told } = write(10_000_000, speed)
  const first = speed * 0.05 // before the first look
  expect(seconds).toBeGreaterThan((10_000_000 - RATE - 2 * first) / RATE)
  expect(seconds).toBeLessThan(101)
  expect(told).toBe(1)
})

test("a writer below its rate never waits, nor does one that has a second's worth at once", () => {
  expect(write(10_000_000, 99_000)).toMatchObject({ told: 0, stopped: 0 })
  expect(write(99_000, 100_000_000)).toMatchObject({ told: 0, stopped: 0 })
})

test("what is overdrawn is waited for to the full, however long, with looks for the run's end in between", () => {
  const over = budgetAt(fullBudget(1_024, 0, 0), 1_024, 1_000_000, 10).budget
  expect(over.waits).toBe(true)
  expect(over.lookMs).toBe(50)
  expect(budgetAt(over, 1_024, 1_000_000, 960_000).budget.waits).toBe(true)
  expect(budgetAt(over, 1_024, 1_000_000, 970_000).budget).toMatchObject({ waits: false, lookMs: 2 })
})

test("a quiet run is looked at less and less, down to once a second, and again often once it writes", () => {
  let budget = fullBudget(RATE, 0, 0)
  const looks: number[] = []
  for (let at = 0; at < 7; at++) {
    looks.push(budget.lookMs)
    budget = budgetAt(budget, RATE, 0, budget.atMs + budget.lookMs).budget
  }
  expect(looks).toEqual([50, 100, 200, 400, 800, 1_000, 1_000])
  expect(budgetAt(budget, RATE, 60_000, budget.atMs + 1_000).budget.lookMs).toBe(50)
})

test("a minute without a wait makes the next one news", () => {
  const first = budgetAt(fullBudget(RATE, 0, 0), RATE, 200_000, 10)
  expect(first.news).toBe(true)
  const on = budgetAt(first.budget, RATE, 200_000, 5_000)
  expect([on.news, on.budget.waits]).toEqual([false, false])
  expect(budgetAt(on.budget, RATE, 900_000, 6_000).news).toBe(false)
  expect(budgetAt(on.budget, RATE, 20_000_000, 90_000).news).toBe(true)
})
