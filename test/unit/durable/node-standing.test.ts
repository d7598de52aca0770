import { describe, expect, it } from "vitest"
import { begun, FORCE_AFTER_MS, mustForce, nextLook, owing, REMIND_MS } from "../../../durable/node/drain.ts"
import { readinessOf } from "../../../durable/node/readiness.ts"

const NOW = 1_000_000
const disk = { kind: "disk_pressure" as const, message: "The node's disk has only 3 MiB left." }
const fine = { accepting: true, reason: null, conditions: [] }
const short = { accepting: false, reason: { code: "disk_pressure", message: disk.message }, conditions: [disk] }
const drain = begun(null, 3, NOW + 60_000, NOW)
const node = { condition: fine, cordoned: false, cordon_reason: null, drain: null }

describe("a node may be given runs", () => {
  it.each([
    ["when nothing is wrong with it", node, true, true, undefined],
    ["not when it is away, whatever else it is", { ...node, condition: short, cordoned: true, drain }, false, false, "node_disconnected"],
    ["not while it is emptied", { ...node, cordoned: true, drain }, true, false, "node_draining"],
    ["not while it is cordoned", { ...node, cordoned: true }, true, false, "node_cordoned"],
    ["not while it finds something wrong with itself", { ...node, condition: short }, true, false, "disk_pressure"],
    ["not for the host's fault while the operator's word stands", { ...node, condition: short, cordoned: true }, true, false, "node_cordoned"],
    ["not when it says so without saying why", { ...node, condition: { ...fine, accepting: false } }, true, false, undefined],
    ["not when it finds something wrong and says that it takes runs", { ...node, condition: { ...fine, conditions: [disk] } }, true, false, "disk_pressure"],
    ["not before it has said anything", { ...node, condition: null }, true, false, undefined],
  ] as const)("%s", (_, row, connected, accepting, code) => {
    const standing = readinessOf({ ...row, condition: row.condition && { ...row.condition, conditions: [...row.condition.conditions] } }, connected)
    expect({ accepting: standing.accepting, code: standing.reason?.code }).toEqual({ accepting, code })
  }) // prettier-ignore

  it("again, and the reason why it was cordoned is the operator's", () => {
    expect(readinessOf({ ...node, cordoned: true, cordon_reason: "new memory" }, true).reason?.message).toBe(
      "The node was cordoned: new memory",
    )
    expect(readinessOf({ ...node, cordoned: true, condition: short }, true).conditions).toEqual([disk])
  })
})

describe("a drain", () => {
  it("keeps its beginning when it is asked for again, and takes the new deadline", () => {
    expect(begun(drain, 1, NOW + 5, NOW + 2)).toEqual({
      since_ms: NOW,
      deadline_ms: NOW + 5,
      runs_at_start: 3,
      due: "begun",
    })
  })

  it.each([
    [NOW, "begun"],
    [NOW + 59_999, "begun"],
    [NOW + 60_000, "over"],
    [NOW + 1_000_000, "over"],
  ])("at %i tells tenants that it has %s", (at, due) => {
    expect(owing({ ...drain, due: null }, at).due).toBe(due)
  })

  it("is over at once when its deadline is now", () => {
    expect(begun(null, 1, NOW, NOW).due).toBe("over")
  })

  it.each([
    ["nothing is left", drain, 0, NOW, null],
    ["there is none", null, 5, NOW, null],
    ["the deadline is far", drain, 1, NOW, NOW + REMIND_MS],
    ["the deadline is near", drain, 1, NOW + 50_000, NOW + 60_000],
    ["the deadline has passed", drain, 1, NOW + 61_000, NOW + 61_000 + REMIND_MS],
  ])("when %s is looked at next in time", (_, given, live, at, next) => {
    expect(nextLook(given, live, at)).toBe(next)
  })

  it("forces what is left only a while after its deadline", () => {
    expect(mustForce(drain, NOW + 60_000)).toBe(false)
    expect(mustForce(drain, NOW + 60_000 + FORCE_AFTER_MS)).toBe(true)
  })
})
