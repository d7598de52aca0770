import { describe, expect, it } from "vitest"
import { mergeNetwork, sameNetwork, updateNetwork } from "../../../durable/tenant/network-update.ts"
import { settle } from "../../../durable/tenant/plan.ts"
import type { Feature } from "../../../schema/features.ts"
import { anId } from "../../support/factories.ts"
import { aGroup } from "../../support/rows.ts"

const making = { now: 50_000, newRunId: () => anId("run"), cell: null }

describe("a merge patch of a network", () => {
  it.each([
    [{ egress: "open" }, {}, { egress: "open" }],
    [{ egress: "open" }, { egress: ["10.0.0.0/8"] }, { egress: ["10.0.0.0/8"] }],
    [
      { egress: "open", egress_bytes_per_second: 5 },
      { ingress_bytes_per_second: 7 },
      { egress: "open", egress_bytes_per_second: 5, ingress_bytes_per_second: 7 },
    ],
    [{ egress: "open", egress_bytes_per_second: 5 }, { egress_bytes_per_second: null }, { egress: "open" }],
    [{ egress: "open" }, { egress_bytes_per_second: null }, { egress: "open" }],
  ] as const)("of %j by %j is %j", (known, update, merged) => {
    expect(mergeNetwork(known as never, update as never)).toEqual(merged)
  })

  it("compares by value, whatever order the names are in", () => {
    expect(sameNetwork({ egress_bytes_per_second: 1, egress: "open" }, { egress: "open", egress_bytes_per_second: 1 })).toBe(true)
    expect(sameNetwork({ egress: ["10.0.0.0/8"] }, { egress: ["10.0.0.0/8"] })).toBe(true)
    expect(sameNetwork({ egress: ["10.0.0.0/8"] }, { egress: ["10.0.0.0/9"] })).toBe(false)
    expect(sameNetwork(null, { egress: "open" })).toBe(false)
  })
})

describe("a changed network", () => {
  it("marks the live run's assignment as due, and no ended run's", () => {
    const before = aGroup()
    const updated = updateNetwork(before, { egress_bytes_per_second: 9 })
    if (!updated.ok) throw new Error(updated.error.detail)
    const { group } = settle(before, updated.value.group, making, updated.value.events)
    expect(group.runs[0]).toMatchObject({ assign_due: true, wish_network: { egress: "open", egress_bytes_per_second: 9 } })
    const over = aGroup({}, { state: "completed" })
    const later = updateNetwork(over, { egress: "none" })
    if (!later.ok) throw new Error(later.error.detail)
    const settled = settle(over, later.value.group, making)
    expect(settled.group.runs[0]).toMatchObject({ assign_due: false, wish_network: { egress: "open" } })
    expect(settled.group.container.spec.network).toEqual({ egress: "none" })
  })

  it.each([
    [null, true],
    [["network", "bandwidth"], true],
    [["network"], false],
  ] as [Feature[] | null, boolean][])("with a rate on a host that can do %j is taken: %j", (features, taken) => {
    expect(updateNetwork(aGroup({}, { features }), { ingress_bytes_per_second: 9 }).ok).toBe(taken)
  })

  it("on a host without any is taken for what is wished of it, not for more", () => {
    const without = aGroup({ create: { network: { egress: "none" } } }, { features: ["disk_quota"] })
    expect(updateNetwork(without, { egress: "open" }).ok).toBe(false)
    expect(updateNetwork(aGroup({}, { features: ["disk_quota"] }), { egress: "none" }).ok).toBe(true)
    const pending = { ...without, runs: [{ ...without.run, state: "pending" as const, node_id: null }] }
    expect(updateNetwork(pending, { egress: "open" }).ok).toBe(true)
  })
})
