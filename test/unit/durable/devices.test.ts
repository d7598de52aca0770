import { array, assert, boolean, constantFrom, integer, oneof, option, property, record, tuple } from "fast-check"
import { describe, expect, it } from "vitest"
import { chooseDevices, keepTaken, shelfOf, shortage } from "../../../durable/cell/devices.ts"
import type { AcceleratorRequest } from "../../../schema/container.ts"
import type { Device } from "../../../schema/node.ts"

const GPU = "nvidia.com/gpu"
const MIG = "nvidia.com/mig-1g.10gb"
const aDevice = (name: string, changes: Partial<Device> = {}): Device => ({
  name,
  healthy: true,
  reason: null,
  parent: null,
  ...changes,
})
const gpus = (...names: string[]) => names.map((name) => aDevice(`${GPU}=${name}`))
const slices = (of: string, ...names: string[]) => names.map((name) => aDevice(`${MIG}=${name}`, { parent: `${GPU}=${of}` }))
const want = (kind: string, count = 1): AcceleratorRequest => ({ kind, count })
const either = (...kinds: string[]): AcceleratorRequest => ({ first_available: kinds.map((kind) => ({ kind, count: 1 })) })
const choose = (devices: Device[], requests: AcceleratorRequest[], taken: string[] = []) =>
  chooseDevices(shelfOf(devices), new Set(taken), requests)

describe("devices", () => {
  it("are given in the order of the requests, as many as each asks for", () => {
    const devices = [...gpus("0", "1", "2"), aDevice("amd.com/gpu=0")]
    expect(choose(devices, [want("amd.com/gpu"), want(GPU, 2)])).toEqual(["amd.com/gpu=0", `${GPU}=0`, `${GPU}=1`])
  })

  it("go to one run at a time, and never twice to one that asks twice", () => {
    expect(choose(gpus("0", "1"), [want(GPU)], [`${GPU}=0`])).toEqual([`${GPU}=1`])
    expect(choose(gpus("0", "1"), [want(GPU), want(GPU)])).toEqual([`${GPU}=0`, `${GPU}=1`])
    expect(choose(gpus("0", "1"), [want(GPU), want(GPU, 2)])).toBeUndefined()
  })

  it("that are not healthy are given to nobody", () => {
    expect(choose([aDevice(`${GPU}=0`, { healthy: false, reason: "scrubbed" })], [want(GPU)])).toBeUndefined()
  })

  it("exclude their parts, and parts the whole", () => {
    const devices = [...gpus("0"), ...slices("0", "a", "b")]
    expect(choose(devices, [want(MIG)], [`${GPU}=0`])).toBeUndefined()
    expect(choose(devices, [want(GPU)], [`${MIG}=b`])).toBeUndefined()
    expect(choose(devices, [want(MIG)], [`${MIG}=b`])).toEqual([`${MIG}=a`])
    expect(choose(devices, [want(GPU), want(MIG)])).toBeUndefined()
  })

  it("exclude the parts of their parts", () => {
    const part = aDevice(`${MIG}=a`, { parent: `${GPU}=0` })
    const partOfPart = aDevice("nvidia.com/ci=x", { parent: `${MIG}=a` })
    expect(choose([...gpus("0"), part, partOfPart], [want(GPU)], [partOfPart.name])).toBeUndefined()
    expect(choose([...gpus("0"), part, partOfPart], [want("nvidia.com/ci")], [`${GPU}=0`])).toBeUndefined()
  })

  it("that are whole stay whole for as long as parts of others will do", () => {
    const devices = [...gpus("0", "1", "2"), ...slices("0", "a", "b"), ...slices("1", "c", "d")]
    expect(choose(devices, [want(MIG, 1)], [`${MIG}=d`])).toEqual([`${MIG}=c`])
    expect(choose(devices, [want(GPU), want(MIG)])).toEqual([`${GPU}=2`, `${MIG}=a`])
  })

  it("of several kinds that would do are the first that is free", () => {
    const devices = [...gpus("0"), aDevice("amd.com/gpu=0")]
    expect(choose(devices, [either(GPU, "amd.com/gpu")])).toEqual([`${GPU}=0`])
    expect(choose(devices, [either(GPU, "amd.com/gpu")], [`${GPU}=0`])).toEqual(["amd.com/gpu=0"])
    expect(choose(devices, [either(GPU, "amd.com/gpu"), want(GPU)])).toEqual(["amd.com/gpu=0", `${GPU}=0`])
    expect(choose(devices, [either(GPU, "amd.com/gpu"), either(GPU, "amd.com/gpu")])).toEqual([`${GPU}=0`, "amd.com/gpu=0"])
    expect(choose(devices, [either(GPU, "amd.com/gpu"), either(GPU)])).toEqual(["amd.com/gpu=0", `${GPU}=0`])
  })

  it("that are too few are named by their kind", () => {
    const shelf = shelfOf(gpus("0"))
    expect(shortage(shelf, new Set(), [want(GPU, 2)])).toBe("has too few nvidia.com/gpu free")
    expect(shortage(shelf, new Set(), [want(GPU), either("amd.com/gpu", MIG)])).toBe(`has too few amd.com/gpu or ${MIG} free`)
    expect(shortage(shelf, new Set(), [want(GPU), want(GPU)])).toBe("has too few nvidia.com/gpu free")
  })

  it("that a run holds are kept, as failed ones, when the node names them no longer", () => {
    const [held, other] = gpus("0", "1")
    if (!held || !other) throw new Error("no devices")
    const kept = keepTaken([], [held, other], new Set([held.name]))
    expect(kept).toEqual([{ ...held, healthy: false, reason: "is no longer there" }])
    const part = slices("0", "a")
    expect(choose(keepTaken(gpus("0"), part, new Set([`${MIG}=a`])), [want(GPU)], [`${MIG}=a`])).toBeUndefined()
  })

  it("whose parents go round in circles are no trap", () => {
    const loop = [aDevice(`${GPU}=0`, { parent: `${GPU}=1` }), aDevice(`${GPU}=1`, { parent: `${GPU}=0` })]
    expect(choose(loop, [want(GPU)])).toHaveLength(1)
    expect(choose(loop, [want(GPU, 2)])).toBeUndefined()
    expect(choose([aDevice(`${GPU}=0`, { parent: `${GPU}=0` })], [want(GPU)])).toEqual([`${GPU}=0`])
  })

  it("are never given twice, unhealthy or beside what excludes them, whatever is asked", () => {
    const device = record({
      kind: constantFrom("a.io/x", "b.io/y"),
      name: integer({ min: 0, max: 5 }),
      healthy: boolean(),
      parent: option(tuple(constantFrom("a.io/x", "b.io/y"), integer({ min: 0, max: 5 }))),
    })
    const request = record({ kind: constantFrom("a.io/x", "b.io/y", "c.io/z"), count: integer({ min: 1, max: 3 }) })
    const asked = array(oneof(request, record({ first_available: array(request, { minLength: 1, maxLength: 3 }) })), {
      minLength: 1,
      maxLength: 4,
    })
    assert(
      property(
        array(device, { maxLength: 10 }),
        asked,
        array(integer({ min: 0, max: 9 }), { maxLength: 3 }),
        (made, requests, held) => {
          const devices = made.map(({ kind, name, healthy, parent }) =>
            aDevice(`${kind}=${name}`, { healthy, parent: parent && `${parent[0]}=${parent[1]}` }),
          )
          const byName = new Map(devices.map((one) => [one.name, one]))
          const taken = held.flatMap((i) => devices[i]?.name ?? [])
          const given = choose(devices, requests, taken)
          if (given === undefined) return
          expect(new Set(given).size).toBe(given.length)
          for (const name of given) {
            expect(byName.get(name)?.healthy).toBe(true)
            expect(taken).not.toContain(name)
            const parent = byName.get(name)?.parent
            if (parent && parent !== name) expect([...given, ...taken]).not.toContain(parent)
          }
        },
      ),
    )
  })

  it("are chosen in no time from requests made to take long", () => {
    const devices = Array.from({ length: 1024 }, (_, i) => aDevice(`a.io/x=${i}`, { parent: i === 0 ? null : "a.io/x=0" }))
    const nasty: AcceleratorRequest[] = Array.from({ length: 8 }, () => ({
      first_available: Array.from({ length: 8 }, (_, i) => ({ kind: i === 7 ? "b.io/none" : "a.io/x", count: 64 - i })),
    }))
    const began = performance.now()
    choose(devices, [
      ...nasty.slice(0, 7),
      {
        first_available: [
          { kind: "b.io/none", count: 1 },
          { kind: "b.io/none", count: 2 },
          ...Array.from({ length: 6 }, () => ({ kind: "c.io/none", count: 1 })),
        ],
      },
    ])
    expect(performance.now() - began).toBeLessThan(2_000)
  })
})
