import { assert, double, nat, property } from "fast-check"
import { describe, expect, it } from "vitest"
import {
  freshFrom, type Health, judge, type Outcome, RETRY_SECONDS, retryAfterSeconds,
} from "../../../../durable/tenant/webhooks/retry.ts" // prettier-ignore

const NOW = 1_800_000_000_000
const healthy: Health = { failures: 0, failing_since_ms: null, hold_until_ms: 0, last_attempt_ms: null, last_success_ms: null }
const answered = (status_code: number, retry_after_seconds: number | null = null): Outcome => ({
  kind: "answered",
  status_code,
  retry_after_seconds,
})
const silent: Outcome = { kind: "unanswered", error: "No answer." }
const first = { tries: 0, first_attempt_ms: NOW }
const MIDDLE = 0.5

describe("what an attempt makes of a delivery", () => {
  it.each([200, 201, 204, 299])("%d accepts it and heals the endpoint", (status) => {
    const failing = { ...healthy, failures: 4, failing_since_ms: NOW - 1, hold_until_ms: NOW - 1 }
    const verdict = judge(answered(status), first, failing, NOW, MIDDLE)
    expect(verdict).toMatchObject({ state: "delivered", next_attempt_ms: null, disable: null })
    expect(verdict.health).toMatchObject({ failures: 0, failing_since_ms: null, hold_until_ms: 0, last_success_ms: NOW })
  })

  it.each([answered(301), answered(302), answered(400), answered(404), answered(500), silent])("%o does not", (outcome) => {
    expect(judge(outcome, first, healthy, NOW, MIDDLE)).toMatchObject({ state: "pending", next_attempt_ms: NOW + 5_000 })
  })

  it("is ten attempts on the schedule of the standard, then it is given up", () => {
    const waits = [...Array(10).keys()].map((tries) => {
      const { next_attempt_ms, state } = judge(silent, { tries, first_attempt_ms: NOW }, healthy, NOW, MIDDLE)
      return state === "failed" ? null : ((next_attempt_ms ?? 0) - NOW) / 1000
    })
    expect(waits).toEqual([...RETRY_SECONDS, null])
  })

  it("spreads retries by a fifth to either side", () => {
    assert(
      property(double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), nat(8), (random, tries) => {
        const { next_attempt_ms } = judge(silent, { tries, first_attempt_ms: NOW }, healthy, NOW, random)
        const wait = ((next_attempt_ms ?? 0) - NOW) / 1000 / (RETRY_SECONDS[tries] ?? 0)
        return wait >= 0.8 && wait <= 1.2
      }),
    )
  })

  it("waits as long as the receiver asks, a day at most, and sends it nothing else meanwhile", () => {
    const asked = judge(answered(503, 60), first, healthy, NOW, MIDDLE)
    expect(asked.next_attempt_ms).toBe(NOW + 60_000)
    expect(freshFrom(asked.health)).toBe(NOW + 60_000)
    expect(judge(answered(429, 10 ** 8), first, healthy, NOW, MIDDLE).next_attempt_ms).toBe(NOW + 86_400_000)
  })

  it.each([429, 502, 504])("slows down at %d without being told how long", (status) => {
    expect(freshFrom(judge(answered(status), first, healthy, NOW, MIDDLE).health)).toBe(NOW + 5_000)
  })
})

describe("what an attempt makes of an endpoint", () => {
  it("lets what is behind a failure go on, until three in a row have failed", () => {
    let health = healthy
    const goesOn = [0, 1, 2].map(() => {
      health = judge(answered(500), first, health, NOW, MIDDLE).health
      return freshFrom(health) <= NOW
    })
    expect(goesOn).toEqual([true, true, false])
    expect(freshFrom(health)).toBe(NOW + 60_000)
  })

  it("ends at 410", () => {
    expect(judge(answered(410), first, healthy, NOW, MIDDLE)).toMatchObject({
      state: "failed",
      disable: "The receiver answered 410 Gone.",
    })
  })

  it("ends when nothing was accepted for as long as one event was tried", () => {
    const last = { tries: 9, first_attempt_ms: NOW - 300_000_000 }
    const dead = { ...healthy, failures: 40, failing_since_ms: last.first_attempt_ms }
    expect(judge(silent, last, dead, NOW, MIDDLE)).toMatchObject({
      state: "failed",
      disable: expect.stringContaining("Every attempt"),
    })
  })

  it("goes on when only one event is refused again and again", () => {
    const last = { tries: 9, first_attempt_ms: NOW - 300_000_000 }
    const alive = { ...healthy, failures: 1, failing_since_ms: NOW - 1_000 }
    expect(judge(silent, last, alive, NOW, MIDDLE)).toMatchObject({ state: "failed", disable: null })
  })
})

describe("Retry-After", () => {
  it.each([
    ["120", 120],
    [new Date(NOW + 30_000).toUTCString(), 30],
    [new Date(NOW - 30_000).toUTCString(), 0],
    ["soon", null],
    [null, null],
  ])("%s is %s", (header, seconds) => {
    expect(retryAfterSeconds(header, NOW)).toBe(seconds)
  })
})
