import { describe, expect, it } from "vitest"
import { devicesOf, obstacle } from "../../../node-bridge/device/health.ts"
import type { DeviceState } from "../../../node-bridge/device/health.ts"
import { anId } from "../../support/assignments.ts"

const run = anId("run")
const other = anId("run")
const plan = { env: [], nodes: [], mounts: [], hooks: [], additionalGids: [] }
const described = (parents: Record<string, string | null>) =>
  new Map(Object.entries(parents).map(([name, parent]) => [name, { name, parent, plan }]))
const good = { badLooks: 0, reason: null }
const aState = (changes: Partial<DeviceState> = {}): DeviceState => ({
  described: described({ whole: null, half: "whole", "other-half": "whole" }),
  seen: new Map(["whole", "half", "other-half"].map((name) => [name, good])),
  holders: new Map(),
  dirty: new Map(),
  ...changes,
})
const healthy = (state: DeviceState) =>
  devicesOf(state)
    .filter((device) => device.healthy)
    .map(({ name }) => name)

const failing = (badLooks: number) => aState({ seen: new Map([["half", { badLooks, reason: "gone" }]]) })
const held = (name: string, by = other) => aState({ holders: new Map([[name, by]]) })

describe("a device", () => {
  it("is healthy once it was seen", () => {
    expect(devicesOf(aState())).toContainEqual({ name: "half", healthy: true, reason: null, parent: "whole" })
    expect(healthy(aState({ seen: new Map([["half", good]]) }))).toEqual(["half"])
  })

  it("is not after two bad looks in a row, and stays so after one", () => {
    expect(healthy(failing(1))).toEqual(["half"])
    expect(devicesOf(failing(2))).toContainEqual({ name: "half", healthy: false, reason: "gone", parent: "whole" })
  })

  it("stays on the list while a run has it, though nothing describes it any more", () => {
    const state = { ...failing(2), described: new Map(), holders: new Map([["half", run]]) }
    expect(devicesOf(state)).toEqual([{ name: "half", healthy: false, reason: "gone", parent: null }])
  })

  it("waits for its scrub, and says why that failed", () => {
    expect(devicesOf(aState({ dirty: new Map([["half", null]]) }))).toContainEqual(
      expect.objectContaining({ name: "half", healthy: false, reason: "it is being scrubbed" }),
    )
    expect(devicesOf(aState({ dirty: new Map([["half", "broken"]]) }))).toContainEqual(
      expect.objectContaining({ name: "half", reason: "it could not be scrubbed: broken" }),
    )
    expect(healthy(aState({ dirty: new Map([["half", null]]), holders: new Map([["half", run]]) }))).toContain("half")
  })
})

describe("a run", () => {
  it.each([
    ["the device itself", "half", "half"],
    ["the whole of a part", "half", "whole"],
    ["a part of the whole", "whole", "half"],
  ])("cannot have %s while another has it", (_, wants, taken) => {
    expect(obstacle(run, wants, held(taken))).toEqual({ why: `${taken} is in use.`, passes: true })
    expect(obstacle(run, wants, held(taken, run))).toBeNull()
  })

  it("can have one half while another has the other", () => {
    expect(obstacle(run, "half", held("other-half"))).toBeNull()
  })

  it("waits for a scrub, and for nothing that fails or is not there", () => {
    expect(obstacle(run, "half", aState({ dirty: new Map([["half", null]]) }))).toMatchObject({ passes: true })
    expect(obstacle(run, "half", failing(2))).toEqual({
      why: "half is gone or fails.",
      passes: false,
    })
    expect(obstacle(run, "nothing", aState())).toEqual({ why: "The node has no device nothing.", passes: false })
  })
})
