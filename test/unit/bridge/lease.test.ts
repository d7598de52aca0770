import { readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeEach, describe, expect, it } from "vitest"
import { endsWithLease, KILL_RESERVE_SECONDS, Lease, LEASE_DRIFT_SHARE } from "../../../node-bridge/agent/lease.ts"
import type { Renewal } from "../../../node-bridge/agent/lease.ts"
import { LeaseFile } from "../../../node-bridge/agent/lease-file.ts"
import { silentLog } from "../../../node-bridge/log.ts"
import { LEASE_MARGIN_SECONDS, LEASE_SECONDS } from "../../../schema/protocol.ts"
import { aRecord, BOOT } from "../../support/assignments.ts"
import { ManualTimers } from "../../support/manual-timers.ts"
import { temporaryDir } from "../../support/temporary-dir.ts"

/** The lease less its margin and what two clocks may differ by. */
const PERIOD_MS = (LEASE_SECONDS - LEASE_MARGIN_SECONDS) * 1000 * (1 - LEASE_DRIFT_SHARE)

let timers: ManualTimers
let lost: number
let lease: Lease
const kept: Renewal[] = []
const memory = (renewedAt: number | null, killAt = Number.MAX_SAFE_INTEGER) => ({
  last: renewedAt === null ? null : { renewedAt, killAt },
  keep: (renewal: Renewal) => void kept.push(renewal),
})

beforeEach(() => {
  timers = new ManualTimers()
  lost = 0
  kept.length = 0
  lease = new Lease(timers, memory(null), () => (lost += 1))
  lease.configure(LEASE_SECONDS, LEASE_MARGIN_SECONDS)
})

describe("a node's lease", () => {
  it("is lost a margin before the platform gives the runs up, were its seconds the longer ones", () => {
    timers.advance(PERIOD_MS - 1)
    expect(lost).toBe(0)
    timers.advance(1)
    expect(lost).toBe(1)
    expect(PERIOD_MS * (1 + LEASE_DRIFT_SHARE)).toBeLessThan((LEASE_SECONDS - LEASE_MARGIN_SECONDS) * 1000)
  })

  it("counts from when the answered heartbeat was sent, not from its answer", () => {
    const sentAt = timers.boottime()
    timers.advance(10_000)
    lease.renew(sentAt)
    timers.advance(PERIOD_MS - 10_000)
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
    timers.advance(PERIOD_MS)
    expect(lost).toBe(2)
  })

  it("arms nothing after it is closed", () => {
    lease.close()
    timers.advance(120_000)
    expect(lost).toBe(0)
  })

  it("goes on in the next bridge from where it was, and not from that bridge's start", () => {
    lease.close()
    const next = new Lease(timers, memory(timers.boottime() - 20_000), () => (lost += 1))
    timers.advance(PERIOD_MS - 20_000 - 1)
    expect(lost).toBe(0)
    timers.advance(1)
    expect(lost).toBe(1)
    next.close()
  })

  it("is gone at once in a bridge that begins after its end", () => {
    const next = new Lease(timers, memory(timers.boottime() - 3_600_000), () => (lost += 1))
    next.check()
    expect(lost).toBe(1)
    next.close()
  })

  it("is gone in a bridge that begins after all was killed, though it had been shorter than ours", () => {
    const now = timers.boottime()
    const next = new Lease(timers, memory(now - 5_000, now - 1), () => (lost += 1))
    next.check()
    expect(lost).toBe(1)
    next.renew(timers.boottime() + 1)
    expect(next.lost).toBe(false)
    next.close()
  })

  it("is no longer for a note from the future", () => {
    const next = new Lease(timers, memory(timers.boottime() + 3_600_000), () => (lost += 1))
    timers.advance(PERIOD_MS)
    expect(lost).toBe(2)
    next.close()
  })

  it("has each renewal kept, with when all must be dead: before the platform gives the runs up, after our own stops", () => {
    timers.advance(5_000)
    lease.renew(timers.boottime())
    const renewedAt = timers.boottime()
    const whole = LEASE_SECONDS * 1000 * (1 - LEASE_DRIFT_SHARE)
    expect(kept.at(-1)).toEqual({ renewedAt, killAt: renewedAt + whole - KILL_RESERVE_SECONDS * 1000 })
    expect(whole - KILL_RESERVE_SECONDS * 1000).toBeGreaterThan(PERIOD_MS)
    lease.configure(1, 0)
    expect(kept.at(-1)?.killAt).toBe(renewedAt + 1000 * (1 - LEASE_DRIFT_SHARE))
  })
})

describe("a run without a lease", () => {
  it.each([
    ["stop", "preparing", true],
    ["stop", "running", true],
    ["keep", "accepted", true],
    ["keep", "preparing", true],
    ["keep", "ready", true],
    ["keep", "starting", false],
    ["keep", "running", false],
  ] as const)("of the kind %s that is %s: must end? %s", (on_partition, state, ends) => {
    expect(endsWithLease(aRecord({ state, assignment: { spec: { on_partition } } }))).toBe(ends)
  })
})

describe("the note of a lease", () => {
  it("is found by the next bridge of the same boot and by no other", async () => {
    await using dir = await temporaryDir()
    const path = join(dir.path, "lease")
    const first = new LeaseFile(path, BOOT, silentLog)
    expect(first.last).toBeNull()
    first.keep({ renewedAt: 123_456.7, killAt: 168_000 })
    expect(new LeaseFile(path, BOOT, silentLog).last).toEqual({ renewedAt: 123_456, killAt: 168_000 })
    expect(new LeaseFile(path, "another boot", silentLog).last).toBeNull()
  })

  it("always takes the same space, so that a full disk cannot refuse it", async () => {
    await using dir = await temporaryDir()
    const path = join(dir.path, "lease")
    const file = new LeaseFile(path, BOOT, silentLog)
    file.keep({ renewedAt: 1, killAt: 2 })
    const { size, ino } = statSync(path)
    file.keep({ renewedAt: 9_999_999_999, killAt: 9_999_999_999 })
    expect(statSync(path)).toMatchObject({ size, ino })
    expect(readFileSync(path, "utf8").trim()).toBe(`${BOOT} 9999999999 9999999999`)
  })

  it("that cannot be read is none", async () => {
    await using dir = await temporaryDir()
    const path = join(dir.path, "lease")
    writeFileSync(path, `${BOOT} soon`)
    expect(new LeaseFile(path, BOOT, silentLog).last).toBeNull()
  })
})
