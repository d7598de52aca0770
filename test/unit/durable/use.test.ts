import { array, assert, constantFrom, double, integer, property, record } from "fast-check"
import { describe, expect, it } from "vitest"
import { added, NO_USE, overQuota, type Use, useOf } from "../../../durable/tenant/use.ts"
import { Quota } from "../../../schema/api.ts"
import { Resources } from "../../../schema/container.ts"

const aUse = (changes: Partial<Use> = {}): Use => ({ ...NO_USE, ...changes })
const GPU = "nvidia.com/gpu"
const others = (kind: string) => aUse({ accelerators: { [kind]: 1 } })

describe("the quota", () => {
  const quota = Quota.parse({ containers: 2, cpus: 0.3, memory_bytes: 100, disk_bytes: 50, accelerators: { [GPU]: 2, "*": 1 } })
  const asked = aUse({ containers: 1, cpus: 0.2, memory_bytes: 1, disk_bytes: 1 })

  it("is not tripped by binary rounding", () => {
    expect(overQuota(aUse({ containers: 1, cpus: 0.1 }), quota, asked)).toBeUndefined()
  })

  it.each<[Partial<Use>, string]>([
    [{ containers: 2 }, "containers"],
    [{ cpus: 0.2 }, "cpus"],
    [{ memory_bytes: 100 }, "memory_bytes"],
    [{ disk_bytes: 50 }, "disk_bytes"],
  ])("names the part that is used up", (used, part) => {
    expect(overQuota(aUse(used), quota, asked)).toMatchObject({
      code: "quota_exceeded",
      detail: expect.stringContaining(`The quota for ${part} is`),
    })
  })

  it("counts accelerators by their kind, and kinds that it does not name each by itself", () => {
    const gpus = (count: number) => aUse({ accelerators: { [GPU]: count } })
    expect(overQuota(gpus(1), quota, gpus(1))).toBeUndefined()
    expect(overQuota(gpus(1), quota, gpus(2))?.detail).toContain(`accelerators of the kind ${GPU} is 2; 1 are in use`)
    expect(overQuota(others("amd.com/gpu"), quota, others("intel.com/npu"))).toBeUndefined()
    expect(overQuota(others("amd.com/gpu"), quota, others("amd.com/gpu"))?.code).toBe("quota_exceeded")
  })

  it("counts a container that takes whichever kind is free as each", () => {
    const either = [
      {
        first_available: [
          { kind: GPU, count: 2 },
          { kind: "amd.com/gpu", count: 1 },
        ],
      },
      { kind: GPU, count: 1 },
    ]
    expect(useOf(Resources.parse({ accelerators: either })).accelerators).toEqual({ [GPU]: 3, "amd.com/gpu": 1 })
  })
})

describe("a running sum", () => {
  const resources = record({
    cpus: double({ min: 0.01, max: 8, noNaN: true }),
    memory_bytes: integer({ min: 6 * 1024 ** 2, max: 1024 ** 3 }),
    accelerators: array(record({ kind: constantFrom(GPU, "amd.com/gpu"), count: integer({ min: 1, max: 4 }) }), { maxLength: 2 }),
  }).map((some) => Resources.parse({ ...some, cpus: Math.max(0.01, Math.round(some.cpus * 100) / 100) }))

  it("comes back to nothing when all that was added is taken away, in any order", () => {
    assert(
      property(array(resources, { maxLength: 40 }), (all) => {
        const full = all.reduce((sum, one) => added(sum, useOf(one), 1), NO_USE)
        expect(all.toReversed().reduce((sum, one) => added(sum, useOf(one), -1), full)).toEqual(NO_USE)
      }),
    )
  })
})
