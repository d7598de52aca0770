import { beforeEach, describe, expect, it } from "vitest"
import { Lease } from "../../../node-bridge/agent/lease.ts"
import { ManualTimers } from "../../support/manual-timers.ts"

let timers: ManualTimers
let lost: number
let lease: Lease

beforeEach(() => {
  timers = new ManualTimers()
  lost = 0
  lease = new Lease(timers, () => (lost += 1))
  lease.configure(45, 15)
})

describe("a node's lease", () => {
  it("is lost a margin before the platform gives the runs up", () => {
    timers.advance(29_999)
    expect(lost).toBe(0)
    timers.advance(1)
    expect(lost).toBe(1)
  })

  it("counts from when the answered heartbeat was sent, not from its answer", () => {
    const sentAt = timers.boottime()
    timers.advance(10_000)
    lease.renew(sentAt)
    timers.advance(20_000)
    expect(lost).toBe(1)
  })

  it("lives on with every heartbeat", () => {
    for (let i = 0; i < 100; i++) {
      timers.advance(5_000)
      lease.renew(timers.boottime())
    }
    expect(lost).toBe(0)
  })

  it("is found lost when the machine wakes, even if a heartbeat answers first", () => {
    timers.sleep(3_600_000)
    lease.renew(timers.boottime())
    expect(lost).toBe(1)
  })

  it("is lost once, and can be lost again after it came back", () => {
    timers.advance(120_000)
    expect(lost).toBe(1)
    lease.renew(timers.boottime())
    expect(lease.lost).toBe(false)
    timers.advance(30_000)
    expect(lost).toBe(2)
  })

  it("arms nothing after it is closed", () => {
    lease.close()
    timers.advance(120_000)
    expect(lost).toBe(0)
  })
})
