import { describe, expect, it } from "vitest"
import { countRefusals } from "../../../durable/cell/explain.ts"
import { schedule } from "../../../durable/cell/schedule.ts"
import type { NodeRow, ReservationRow } from "../../../durable/cell/store.ts"
import type { Device } from "../../../schema/node.ts"
import { anId, GIB } from "../../support/factories.ts"
import { aLedgerOf, anAsk, aNodeRow, aSearch, book, CAPACITY, offering, someResources } from "../../support/cell.ts"

const aDevice = (name: string, changes: Partial<Device> = {}): Device => ({
  name,
  healthy: true,
  reason: null,
  parent: null,
  ...changes,
})
const GPU = { resources: someResources({ accelerators: [{ kind: "nvidia.com/gpu" }] }) }
const TENANT = anId("ten")
const OTHER = anId("ten")

interface Refusal {
  readonly node?: Partial<NodeRow>
  readonly holds?: Partial<ReservationRow>
  readonly ask?: Parameters<typeof anAsk>[0]
  readonly reason: string
}

const REFUSALS: [string, Refusal][] = [
  ["ready", { node: { ready: false }, reason: "is not ready" }],
  ["profile", { node: { profiles: [] }, reason: "does not offer the isolation profile" }],
  ["profile's features", { node: { profiles: offering("network") }, reason: "cannot limit disk space" }],
  [
    "the first of missing features",
    {
      node: { profiles: offering("disk_quota") },
      ask: { features: ["network", "io_limits"] },
      reason: "cannot give that isolation profile a network",
    },
  ],
  ["disk I/O", { node: { profiles: offering("disk_quota") }, ask: { features: ["io_limits"] }, reason: "cannot limit disk I/O" }],
  ["open files", { node: { max_open_files: 1024 }, reason: "does not allow a process so many open files" }],
  [
    "vulnerabilities",
    {
      node: { vulnerable: true },
      ask: { refuse_vulnerable: true },
      reason: "has a known vulnerability, which the policy refuses",
    },
  ],
  ["another tenant's node", { node: { exclusive_to: [OTHER] }, reason: "is kept for other tenants" }],
  ["nobody's node", { node: { exclusive_to: [] }, reason: "is kept for other tenants" }],
  [
    "labels",
    {
      node: { labels: { zone: "a" } },
      ask: { placement: { labels: { zone: "b" } } },
      reason: "does not have the labels asked for",
    },
  ],
  [
    "region",
    {
      node: { labels: { region: "eu-1" } },
      ask: { placement: { labels: { region: "us-1" } } },
      reason: "does not have the labels asked for",
    },
  ],
  ["runs", { node: { capacity: { ...CAPACITY, runs: 1 } }, holds: {}, reason: "holds as many containers as it may" }],
  ["processors", { holds: { cpus: 3.001 }, reason: "has too few processors free" }],
  ["memory", { holds: { memory_bytes: 7 * GIB + 1 }, reason: "has too little memory free" }],
  ["process ids", { holds: { pids: 901 }, reason: "has too few process ids free" }],
  ["disk", { holds: { disk_bytes: 9 * GIB + 1 }, reason: "has too little disk space free" }],
  [
    "a node without such devices",
    { node: { devices: [aDevice("amd.com/gpu=0")] }, ask: GPU, reason: "has too few nvidia.com/gpu free" },
  ],
  [
    "devices that are taken",
    {
      node: { devices: [aDevice("nvidia.com/gpu=0")] },
      holds: { devices: ["nvidia.com/gpu=0"] },
      ask: GPU,
      reason: "has too few nvidia.com/gpu free",
    },
  ],
  [
    "devices that have failed",
    {
      node: { devices: [aDevice("nvidia.com/gpu=0", { healthy: false, reason: "fell off the bus" })] },
      ask: GPU,
      reason: "has too few nvidia.com/gpu free",
    },
  ],
  [
    "the spread limit of a node",
    {
      holds: { group: `${TENANT}/web` },
      ask: { placement: { group: "web", spread: { limit: 1 } } },
      reason: "holds as many of its group as may be on one node",
    },
  ],
  [
    "the spread limit of a zone",
    {
      node: { labels: { zone: "a" } },
      holds: { group: `${TENANT}/web` },
      ask: { placement: { group: "web", spread: { by: "zone", limit: 1 } } },
      reason: "has a label of whose value no more nodes may be used by its group",
    },
  ],
  [
    "a node without the label to spread by",
    {
      node: { labels: { region: "eu-1" } },
      ask: { placement: { group: "web", spread: { by: "zone", limit: 9 } } },
      reason: "does not have the label that its group is spread by",
    },
  ],
  [
    "anti-affinity of the ask",
    {
      holds: { group: `${TENANT}/db` },
      ask: { placement: { anti_affinity: ["db"] } },
      reason: "holds a container that it must not share a node with",
    },
  ],
  [
    "anti-affinity of its own group",
    {
      holds: { group: `${TENANT}/db` },
      ask: { placement: { group: "db", anti_affinity: ["db"] } },
      reason: "holds a container that it must not share a node with",
    },
  ],
  [
    "anti-affinity of a run that is there",
    {
      holds: { anti_affinity: [`${TENANT}/web`] },
      ask: { placement: { group: "web" } },
      reason: "holds a container that must not share a node with it",
    },
  ],
]

describe("a filter", () => {
  it.each(REFUSALS)("of %s refuses with its reason", (_, { node = {}, holds, ask = {}, reason }) => {
    const { ledger, nodes } = aLedgerOf(node)
    const [one] = nodes
    if (one && holds) book(ledger, one.id, holds)
    const search = aSearch(ledger, anAsk({ tenant_id: TENANT, ...ask }))
    expect(countRefusals(nodes, search)).toEqual([{ reason, nodes: 1 }])
    expect(schedule(ledger.blocks, search, anId("run"), 0).node).toBeUndefined()
  })

  const passes: [string, Omit<Refusal, "reason">][] = [
    ["processors that just suffice", { holds: { cpus: 3 } }],
    ["memory that just suffices", { holds: { memory_bytes: 7 * GIB } }],
    ["a tenant that the node is kept for", { node: { exclusive_to: [OTHER, TENANT] } }],
    ["all labels asked for", { node: { labels: { zone: "a", disk: "ssd" } }, ask: { placement: { labels: { zone: "a" } } } }],
    ["vulnerabilities that the policy accepts", { node: { vulnerable: true } }],
    ["a free device", { node: { devices: [aDevice("nvidia.com/gpu=0")] }, ask: GPU }],
    [
      "one of two alternatives",
      {
        node: { devices: [aDevice("amd.com/gpu=0")] },
        ask: {
          resources: someResources({
            accelerators: [{ first_available: [{ kind: "nvidia.com/gpu" }, { kind: "amd.com/gpu" }] }],
          }),
        },
      },
    ],
    [
      "a spread limit not reached",
      { holds: { group: `${TENANT}/web` }, ask: { placement: { group: "web", spread: { limit: 2 } } } },
    ],
    ["another group", { holds: { group: `${TENANT}/db` }, ask: { placement: { group: "web", spread: { limit: 1 } } } }],
    ["another tenant's group of that name", { holds: { group: `${OTHER}/db` }, ask: { placement: { anti_affinity: ["db"] } } }],
    [
      "another tenant's aversion",
      { holds: { group: `${OTHER}/x`, anti_affinity: [`${OTHER}/web`] }, ask: { placement: { group: "web" } } },
    ],
  ]
  it.each(passes)("lets pass: %s", (_, { node = {}, holds, ask = {} }) => {
    const { ledger, nodes } = aLedgerOf(node)
    const [one] = nodes
    if (one && holds) book(ledger, one.id, holds)
    const search = aSearch(ledger, anAsk({ tenant_id: TENANT, ...ask }))
    expect(countRefusals(nodes, search)).toEqual([])
    expect(schedule(ledger.blocks, search, anId("run"), 0).node).toBe(one)
  })

  it("of processors is not tripped by binary rounding", () => {
    const { ledger, nodes } = aLedgerOf({ capacity: { ...CAPACITY, cpus: 0.3 } })
    for (const { id } of nodes) book(ledger, id, { cpus: 0.1 })
    const search = aSearch(ledger, anAsk({ resources: someResources({ cpus: 0.2 }) }))
    expect(schedule(ledger.blocks, search, anId("run"), 0).node).toBe(nodes[0])
  })
})

describe("groups", () => {
  const spreadByZone = anAsk({ tenant_id: TENANT, placement: { group: "web", spread: { by: "zone", limit: 1 } } })
  const mayGo = (ledger: ReturnType<typeof aLedgerOf>["ledger"]) =>
    ledger.nodes.length - countRefusals(ledger.nodes, aSearch(ledger, spreadByZone)).reduce((sum, { nodes }) => sum + nodes, 0)

  it("count for all nodes of a label's value, and no more once their run is given back", () => {
    const { ledger, nodes } = aLedgerOf({ labels: { zone: "a" } }, { labels: { zone: "a" } }, { labels: { zone: "b" } })
    const [first] = nodes
    if (first === undefined) throw new Error("no node")
    const row = book(ledger, first.id, { group: `${TENANT}/web` })
    expect(mayGo(ledger)).toBe(1)
    ledger.credit(first.id, row)
    expect(mayGo(ledger)).toBe(3)
  })

  it("follow a node whose labels change, and one that is forgotten", () => {
    const { ledger, nodes } = aLedgerOf({ labels: { zone: "a" } }, { labels: { zone: "a" } }, { labels: { zone: "b" } })
    const [first] = nodes
    if (first === undefined) throw new Error("no node")
    book(ledger, first.id, { group: `${TENANT}/web` })
    expect(mayGo(ledger)).toBe(1) // the other in b
    ledger.put(aNodeRow({ node_id: first.id, labels: { zone: "b" } }))
    expect(mayGo(ledger)).toBe(1) // the other in a
    ledger.forget(first.id)
    expect(mayGo(ledger)).toBe(2)
  })
})
