import { beforeEach, describe, expect, it } from "vitest"
import {
  afterFailure,
  isSuspect,
  PROBE_EVERY_MS,
  RuntimeHealth,
  SUSPECT_AFTER,
} from "../../../node-bridge/agent/runtime-health.ts"
import type { Failed } from "../../../node-bridge/agent/runtime-health.ts"
import { silentLog } from "../../../node-bridge/log.ts"
import { anAssignment } from "../../support/assignments.ts"
import { ManualTimers } from "../../support/manual-timers.ts"

const of = (tenant: string, image: string): Failed => ({ tenant, image })
const after = (...ends: [Failed, string][]) =>
  ends.reduce<readonly Failed[]>((before, [failed, code]) => afterFailure(before, failed, code), [])

describe("a host is suspect", () => {
  it.each<[string, [Failed, string][], boolean]>([
    ["after three faults of its own, of two tenants", [[of("a", "x"), "start_failed"], [of("b", "x"), "node_fault"], [of("a", "x"), "disk_failed"]], true],
    ["after three, of two images", [[of("a", "x"), "start_failed"], [of("a", "y"), "start_failed"], [of("a", "x"), "start_failed"]], true],
    ["not after three of one image", [[of("a", "x"), "start_failed"], [of("a", "x"), "start_failed"], [of("a", "x"), "start_failed"]], false],
    ["not after two", [[of("a", "x"), "start_failed"], [of("b", "y"), "start_failed"]], false],
    ["not for what is the tenants' doing", [[of("a", "x"), "command_not_found"], [of("b", "y"), "image_not_found"], [of("c", "z"), "registry_timeout"]], false],
    ["though such things come in between", [[of("a", "x"), "start_failed"], [of("b", "y"), "command_not_found"], [of("b", "y"), "start_failed"], [of("c", "z"), "start_failed"]], true],
  ])("%s", (_, ends, suspect) => {
    expect(isSuspect(after(...ends))).toBe(suspect)
  }) // prettier-ignore
})

const settled = async () => {
  for (let i = 0; i < 5; i++) await Promise.resolve()
}

describe("a host that is suspect", () => {
  let timers: ManualTimers
  let works: boolean
  let probes: number
  let changes: number
  let health: RuntimeHealth
  const fail = async () => {
    for (let i = 0; i < SUSPECT_AFTER; i++) health.failed(anAssignment(), "start_failed")
    await settled()
  }

  beforeEach(() => {
    timers = new ManualTimers()
    works = true
    probes = changes = 0
    const probe = async () => {
      probes += 1
      if (!works) throw new Error("crun is gone")
    }
    health = new RuntimeHealth({ probe, timers, log: silentLog, changed: () => (changes += 1) })
  })

  it("is not broken when a container of its own works, and does not try again at once", async () => {
    await fail()
    await fail()
    expect({ probes, changes, condition: health.condition }).toEqual({ probes: 1, changes: 0, condition: null })
    timers.advance(PROBE_EVERY_MS)
    await fail()
    expect(probes).toBe(2)
  })

  it("is broken when that fails as well, says so once, and heals when it works again", async () => {
    works = false
    await fail()
    expect(health.condition).toMatchObject({ kind: "runtime_broken", message: expect.stringContaining("crun is gone") })
    timers.advance(PROBE_EVERY_MS)
    await settled()
    timers.advance(PROBE_EVERY_MS)
    await settled()
    expect({ probes, changes }).toEqual({ probes: 3, changes: 1 })
    works = true
    timers.advance(PROBE_EVERY_MS)
    await settled()
    expect({ changes, condition: health.condition }).toEqual({ changes: 2, condition: null })
    expect(timers.armed).toBe(0)
  })

  it("is healed by a tenant's container that starts", async () => {
    works = false
    await fail()
    health.succeeded()
    expect({ condition: health.condition, armed: timers.armed }).toEqual({ condition: null, armed: 0 })
  })

  it("leaves nothing behind when it is closed", async () => {
    works = false
    await fail()
    health.close()
    expect(timers.armed).toBe(0)
  })
})
