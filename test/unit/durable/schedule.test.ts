import { describe, expect, it } from "vitest"
import { FILTERS } from "../../../durable/cell/filters.ts"
import type { NodeState } from "../../../durable/cell/node-state.ts"
import { SAMPLE, schedule } from "../../../durable/cell/schedule.ts"
import { SCORERS } from "../../../durable/cell/scorers.ts"
import type { Ask } from "../../../durable/shared/rpc.ts"
import { anId, GIB } from "../../support/factories.ts"

const CHAIN = { filters: FILTERS, scorers: SCORERS }
const aNode = (changes: Partial<NodeState> = {}): NodeState => ({
  id: anId("nod"),
  capacity: { cpus: 4, memory_bytes: 8 * GIB, pids: 1000, runs: 10 },
  labels: {},
  profiles: new Set(["hardened"]),
  ready: true,
  used: { runs: 0, cpus: 0, memory_bytes: 0, pids: 0 },
  ...changes,
})
const anAsk = (changes: Partial<Ask> = {}): Ask => ({
  run_id: anId("run"), tenant_id: anId("ten"), resources: { cpus: 1, memory_bytes: GIB, pids: 100 }, profile: "hardened", labels: {}, ...changes,
}) // prettier-ignore
const busy = (used: Partial<NodeState["used"]>) => ({ used: { runs: 1, cpus: 0, memory_bytes: 0, pids: 0, ...used } })

describe("a filter", () => {
  it.each([
    ["ready", { ready: false }, {}, "is not ready"],
    ["profile", { profiles: new Set<never>() }, {}, "does not offer the isolation profile"],
    ["labels", { labels: { zone: "a" } }, { labels: { zone: "b" } }, "does not have the labels asked for"],
    ["runs", busy({ runs: 10 }), {}, "holds as many containers as it may"],
    ["cpus", busy({ cpus: 3.01 }), {}, "has too few processors free"],
    ["memory", busy({ memory_bytes: 7 * GIB + 1 }), {}, "has too little memory free"],
    ["pids", busy({ pids: 901 }), {}, "has too few process ids free"],
  ])("%s refuses with its reason, and lets the rest pass", (name, node, ask, reason) => {
    const filter = FILTERS.find((one) => one.name === name)
    expect(filter?.run(aNode(node), anAsk(ask))).toBe(reason)
    expect(filter?.run(aNode(), anAsk())).toBeUndefined()
    expect(schedule([aNode(node)], anAsk(ask), CHAIN, 0)).toEqual({ node: null, refused: [{ reason, nodes: 1 }] })
  })

  it("of processors is not tripped by binary rounding", () => {
    const node = aNode({ capacity: { cpus: 0.3, memory_bytes: 8 * GIB, pids: 1000, runs: 10 }, ...busy({ cpus: 0.1 }) })
    expect(schedule([node], anAsk({ resources: { cpus: 0.2, memory_bytes: GIB, pids: 1 } }), CHAIN, 0).node).toBe(node)
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
