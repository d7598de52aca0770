import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { conditionOf, withFound } from "../../../node-bridge/condition/condition.ts"
import { memoryPressure, parseMemory } from "../../../node-bridge/condition/memory.ts"
import { Happenings } from "../../../node-bridge/runtime/happenings.ts"
import type { Notice } from "../../../schema/protocol.ts"
import { anId } from "../../support/assignments.ts"

const GIB = 1024 ** 3
const disk = { kind: "disk_pressure" as const, message: "The node's disk has only 3 MiB left." }
const broken = { kind: "runtime_broken" as const, message: "no" }

const aNotice = (run_id: Notice["run_id"], at_ms: number) => ({
  run_id,
  kind: "disk_full" as const,
  at_ms,
  reason: { code: "disk_full", message: "full" },
})

describe("a host's condition", () => {
  it("lets runs come while nothing is wrong", () => {
    expect(conditionOf([])).toEqual({ accepting: true, reason: null, conditions: [] })
  })

  it("gives the first of what is wrong as the reason, and all of it", () => {
    expect(withFound(conditionOf([disk]), [broken])).toEqual({
      accepting: false,
      reason: { code: "runtime_broken", message: "no" },
      conditions: [broken, disk],
    })
    expect(withFound(conditionOf([disk]), [])).toEqual(conditionOf([disk]))
  })
})

const memory = (available: number, stalledPercent: number | null = 0) => ({
  totalBytes: 16 * GIB,
  availableBytes: available * GIB,
  stalledPercent,
})

describe("the memory of a host", () => {
  /** A floor of 4 %: 0.64 GiB. */
  it.each([
    ["plenty", memory(8), false, false],
    ["just above the floor", memory(0.65), false, false],
    ["below the floor", memory(0.63), false, true],
    ["above the floor, and it was below", memory(0.9), true, true],
    ["well above the floor again", memory(0.97), true, false],
    ["short, and processes stall", memory(1.2, 10), false, true],
    ["short, and few stall", memory(1.2, 9), false, false],
    ["short, and fewer stall than did", memory(1.2, 7), true, true],
    ["plenty, and a container stalls at its own limit", memory(8, 90), false, false],
    ["short where stalls are not counted", memory(1.2, null), false, false],
  ])("%s", (_, now, pressed, found) => {
    expect(memoryPressure(now, pressed) !== null).toBe(found)
  })

  it("needs no more than one GiB free, however large it is", () => {
    expect(memoryPressure({ totalBytes: 1000 * GIB, availableBytes: GIB, stalledPercent: 0 }, false)).toBeNull()
  })

  it("is read from the kernel's own words", () => {
    const meminfo = "MemTotal:       16384 kB\nMemFree:        1 kB\nMemAvailable:   1024 kB\n"
    const pressure = "some avg10=1.00 avg60=2.00 avg300=0.00 total=1\nfull avg10=0.50 avg60=12.25 avg300=0.00 total=1\n"
    expect(parseMemory(meminfo, pressure)).toEqual({
      totalBytes: 16384 * 1024,
      availableBytes: 1024 * 1024,
      stalledPercent: 12.25,
    })
    expect(parseMemory(meminfo, null)?.stalledPercent).toBeNull()
    expect(parseMemory("", null)).toBeUndefined()
    expect(parseMemory(readFileSync("/proc/meminfo", "utf8"), null)?.availableBytes).toBeGreaterThan(0)
  })
})

describe("what happens on a host", () => {
  it("waits for somebody to hear it, the latest of each run and kind", () => {
    const happenings = new Happenings()
    const [one, other] = [anId("run"), anId("run")]
    for (let i = 0; i < 1000; i++) happenings.notice(aNotice(one, i))
    happenings.notice(aNotice(other, 7))
    const heard: Omit<Notice, "id">[] = []
    const listener = { notice: (notice: Omit<Notice, "id">) => void heard.push(notice), facts: () => {}, condition: () => {} }
    happenings.listen(listener)()
    expect(heard).toEqual([aNotice(one, 999), aNotice(other, 7)])
    happenings.listen(listener)()
    expect(heard).toHaveLength(2)
  })

  it("makes one condition of what its parts find", () => {
    const happenings = new Happenings()
    happenings.setCondition("disk_pressure", disk)
    happenings.setCondition("memory_pressure", { kind: "memory_pressure", message: "little" })
    happenings.setCondition("disk_pressure", null)
    expect(happenings.condition).toMatchObject({ accepting: false, reason: { code: "memory_pressure" } })
    happenings.setCondition("memory_pressure", null)
    expect(happenings.condition.accepting).toBe(true)
  })
})
