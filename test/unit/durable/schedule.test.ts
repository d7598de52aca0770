import { describe, expect, it } from "vitest"
import { FILTERS } from "../../../durable/cell/filters.ts"
import { shelfOf } from "../../../durable/cell/devices.ts"
import { bitsOf, type NodeState, wantedOf } from "../../../durable/cell/node-state.ts"
import { SAMPLE, schedule } from "../../../durable/cell/schedule.ts"
import { SCORERS } from "../../../durable/cell/scorers.ts"
import type { Ask } from "../../../durable/shared/rpc.ts"
import type { z } from "zod"
import { PlacementWish, Resources } from "../../../schema/container.ts"
import { type Feature, FEATURES } from "../../../schema/features.ts"
import type { Device } from "../../../schema/node.ts"
import { anId, GIB } from "../../support/factories.ts"

const CHAIN = { filters: FILTERS, scorers: SCORERS }
const NOTHING = { runs: 0, cpus: 0, memory_bytes: 0, pids: 0, disk_bytes: 0 }
const CAPACITY = { cpus: 4, memory_bytes: 8 * GIB, pids: 1000, runs: 10, disk_bytes: 10 * GIB }
const aNode = (changes: Partial<NodeState> = {}): NodeState => ({
  id: anId("nod"),
  capacity: CAPACITY,
  labels: {},
  offers: new Map([["hardened", { features: FEATURES, bits: bitsOf(FEATURES) }]]),
  max_open_files: 1_048_576,
  vulnerable: false,
  ready: true,
  shelf: shelfOf([]),
  taken: new Set(),
  used: NOTHING,
  ...changes,
})
const resources = (changes: z.input<typeof Resources> = {}) =>
  Resources.parse({ cpus: 1, memory_bytes: GIB, pids: 100, ...changes })
const anAsk = (changes: Partial<Ask> = {}): Ask => ({
  run_ids: [anId("run")],
  tenant_id: anId("ten"),
  image: "app:1",
  resources: resources(),
  profile: "hardened",
  features: ["disk_quota"],
  refuse_vulnerable: false,
  placement: PlacementWish.parse({}),
  ...changes,
})
const offering = (...features: Feature[]) => ({ offers: new Map([["hardened" as const, { features, bits: bitsOf(features) }]]) })
const aDevice = (name: string): Device => ({ name, healthy: true, reason: null, parent: null })
const busy = (used: Partial<NodeState["used"]>) => ({ used: { ...NOTHING, runs: 1, ...used } })

describe("a filter", () => {
  it.each([
    ["ready", { ready: false }, {}, "is not ready"],
    ["profile", { offers: new Map() }, {}, "does not offer the isolation profile"],
    ["profile", offering("network"), {}, "cannot limit disk space"],
    ["profile", offering("disk_quota"), { features: ["network", "io_limits"] }, "cannot give that isolation profile a network"],
    ["profile", offering("disk_quota"), { features: ["io_limits"] }, "cannot limit disk I/O"],
    ["profile", offering("disk_quota"), { features: ["io_weight"] }, "cannot weigh disk I/O"],
    ["open_files", { max_open_files: 1024 }, {}, "does not allow a process so many open files"],
    ["vulnerabilities", { vulnerable: true }, { refuse_vulnerable: true }, "has a known vulnerability, which the policy refuses"],
    ["labels", { labels: { zone: "a" } }, { labels: { zone: "b" } }, "does not have the labels asked for"],
    ["runs", busy({ runs: 10 }), {}, "holds as many containers as it may"],
    ["cpus", busy({ cpus: 3.01 }), {}, "has too few processors free"],
    ["memory", busy({ memory_bytes: 7 * GIB + 1 }), {}, "has too little memory free"],
    ["pids", busy({ pids: 901 }), {}, "has too few process ids free"],
    ["disk", busy({ disk_bytes: 9 * GIB + 1 }), {}, "has too little disk space free"],
    [
      "devices",
      { shelf: shelfOf([aDevice("nvidia.com/gpu=0")]), taken: new Set(["nvidia.com/gpu=0"]) },
      { resources: resources({ accelerators: [{ kind: "nvidia.com/gpu" }] }) },
      "has too few nvidia.com/gpu free",
    ],
  ] as [string, Partial<NodeState>, Partial<Ask>, string][])(
    "%s refuses with its reason, and lets the rest pass",
    (name, node, ask, reason) => {
      const filter = FILTERS.find((one) => one.name === name)
      expect(filter?.run(aNode(node), wantedOf(anAsk(ask)))).toBe(reason)
      expect(filter?.run(aNode(), wantedOf(anAsk()))).toBeUndefined()
      expect(schedule([aNode(node)], anAsk(ask), CHAIN, 0)).toEqual({ node: null, refused: [{ reason, nodes: 1 }] })
    },
  )

  it("of processors is not tripped by binary rounding", () => {
    const node = aNode({ capacity: { ...CAPACITY, cpus: 0.3 }, ...busy({ cpus: 0.1 }) })
    expect(schedule([node], anAsk({ resources: resources({ cpus: 0.2 }) }), CHAIN, 0).node).toBe(node)
  })
})

describe("a score", () => {
  it("lies between 0 and 1 for any node that fits", () => {
    for (const { scorer } of SCORERS) {
      for (const used of [{}, { cpus: 3 }, { memory_bytes: 7 * GIB }]) {
        const score = scorer.run(aNode(busy(used)), anAsk())
        expect(score).toBeGreaterThanOrEqual(0)
        expect(score).toBeLessThanOrEqual(1)
      }
    }
  })
})

describe("scheduling", () => {
  it("prefers the less loaded node", () => {
    const [loaded, idle] = [aNode(busy({ cpus: 2, memory_bytes: 2 * GIB })), aNode()]
    expect(schedule([loaded, idle], anAsk(), CHAIN, 0).node).toBe(idle)
  })

  it("decides equal nodes by fewer runs, then by id, wherever the search begins", () => {
    const nodes = Array.from({ length: 5 }, () => aNode())
    const least = nodes.map((node) => node.id).toSorted()[0]
    for (let start = 0; start < 5; start++) expect(schedule(nodes, anAsk(), CHAIN, start).node?.id).toBe(least)
  })

  it("finds the one node that fits among many that do not", () => {
    const nodes = Array.from({ length: 3 * SAMPLE }, () => aNode({ ready: false }))
    const fitting = aNode()
    nodes[2 * SAMPLE] = fitting
    expect(schedule(nodes, anAsk(), CHAIN, 7).node).toBe(fitting)
  })

  it("counts why nothing fits, most first", () => {
    const nodes = [aNode({ ready: false }), aNode(busy({ cpus: 4 })), aNode(busy({ cpus: 4 }))]
    expect(schedule(nodes, anAsk(), CHAIN, 0)).toEqual({
      node: null,
      refused: [
        { reason: "has too few processors free", nodes: 2 },
        { reason: "is not ready", nodes: 1 },
      ],
    })
  })
})
