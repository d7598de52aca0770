import { describe, expect, it } from "vitest"
import { given, mayGoEarly, placed, policyRefused } from "../../../durable/tenant/placing.ts"
import { settle } from "../../../durable/tenant/plan.ts"
import { assignmentOf } from "../../../durable/tenant/view.ts"
import { warningsOf } from "../../../durable/tenant/warnings.ts"
import { Policy } from "../../../schema/api.ts"
import { CAPABILITIES } from "../../../schema/container.ts"
import { FEATURES } from "../../../schema/features.ts"
import { anId } from "../../support/factories.ts"
import { aGroup } from "../../support/rows.ts"

const NOW = 50_000
const making = { now: NOW, newRunId: () => anId("run"), cell: null }
const pending = (create = {}) =>
  aGroup({ create, status: "scheduling" }, { state: "pending", node_id: null, cell_id: null, wish_network: null })
const strict = Policy.parse({ capabilities: "none", on_deviation: "stop" })
const aPlace = (changes = {}) => ({
  cell: anId("cel"),
  node: anId("nod"),
  region: "eu-1",
  devices: ["nvidia.com/gpu=0"],
  features: FEATURES,
  policy: strict,
  asked_at_ms: NOW - 3,
  answered_at_ms: NOW - 1,
  ...changes,
})

describe("a run that is placed", () => {
  it("keeps its devices, its policy and its network for its node", () => {
    const group = pending()
    const [run] = placed(group, group.run, aPlace(), NOW).group.runs
    if (!run) throw new Error("no run")
    expect(run).toMatchObject({
      state: "placed",
      devices: ["nvidia.com/gpu=0"],
      policy: strict,
      wish_network: { egress: "open" },
    })
    const { devices, spec } = assignmentOf(anId("ten"), group.container, run)
    expect({ devices, capabilities: spec.capabilities, on_deviation: spec.on_deviation }).toEqual({
      devices: ["nvidia.com/gpu=0"],
      capabilities: [],
      on_deviation: "stop",
    })
  })

  it("is held to the policy as well when a crash took the record of its placement", () => {
    const group = pending()
    const run = given(group.container.spec, group.run, { node: anId("nod"), policy: strict }, NOW)
    const { spec } = assignmentOf(anId("ten"), group.container, run)
    expect([spec.capabilities, spec.on_deviation, spec.network]).toEqual([[], "stop", { egress: "open" }])
  })

  it("without any policy has what the profile gives", () => {
    const group = aGroup({}, { policy: null })
    expect(assignmentOf(anId("ten"), group.container, group.run).spec).toMatchObject({
      capabilities: [...CAPABILITIES],
      on_deviation: "report",
    })
  })

  it("where it lacks what was asked for meanwhile is given back, and another is made", () => {
    const group = pending({ network: { egress_bytes_per_second: 5 } })
    const at = aPlace({ features: ["network", "disk_quota"], devices: [] })
    expect(mayGoEarly(group.container.spec, at)).toBe(false)
    const changed = placed(group, group.run, at, NOW)
    const settled = settle(group, changed.group, making, changed.events).group
    expect(settled.runs[0]).toMatchObject({ state: "stopped", node_id: null, cell_id: at.cell, release_due: true })
    expect(settled.runs[1]).toMatchObject({ state: "pending", attempt: 2 })
  })

  it("with devices is told to its node only once it is on record", () => {
    const { spec } = pending().container
    expect(mayGoEarly(spec, aPlace())).toBe(false)
    expect(mayGoEarly(spec, aPlace({ devices: [] }))).toBe(true)
  })
})

describe("a run that the policy forbids", () => {
  it("is rejected with the policy's reason, unless it was placed meanwhile", () => {
    const group = pending({ capabilities: ["CAP_KILL"] })
    const refused = policyRefused(group, group.run, "Not allowed.", NOW)
    expect(settle(group, refused.group, making).group.runs[0]).toMatchObject({
      state: "rejected",
      present: false,
      reason: { code: "policy_refused", message: "Not allowed." },
    })
    const live = aGroup()
    expect(policyRefused(live, live.run, "Not allowed.", NOW).group).toBe(live)
  })
})

describe("warnings", () => {
  it("tell where disk limits reach less far than their name, once it is known", () => {
    const { spec } = pending({ resources: { io: { write_bytes_per_second: 1 } } }).container
    expect(warningsOf(spec, undefined)).toEqual([])
    expect(warningsOf(spec, { features: null })).toEqual([])
    expect(warningsOf(spec, { features: ["io_limits"] })).toHaveLength(1)
    expect(warningsOf(spec, { features: ["io_limits", "buffered_io_limits"] })).toEqual([])
    const weighted = pending({ resources: { io: { weight: 10 } } }).container.spec
    expect(warningsOf(weighted, { features: ["io_weight"] })).toEqual([])
  })
})
