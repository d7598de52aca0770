import { describe, expect, it } from "vitest"
import { BLOCK_NODES } from "../../../durable/cell/blocks.ts"
import { countRefusals, explain } from "../../../durable/cell/explain.ts"
import { Refusals } from "../../../durable/cell/refusals.ts"
import { SAMPLE, schedule, strideOf } from "../../../durable/cell/schedule.ts"
import { anId, GIB } from "../../support/factories.ts"
import { aLedgerOf, anAsk, aNodeRow, aSearch, book, someResources } from "../../support/cell.ts"

const BUSY = { cpus: 4 }

describe("scheduling", () => {
  it("prefers the less loaded node", () => {
    const { ledger, nodes } = aLedgerOf({}, {})
    const [loaded, idle] = nodes
    if (loaded) book(ledger, loaded.id, { cpus: 2, memory_bytes: 2 * GIB })
    expect(schedule(ledger.blocks, aSearch(ledger, anAsk()), anId("run"), 0).node).toBe(idle)
  })

  it("decides equal nodes alike for one run wherever the search begins, and otherwise for others", () => {
    const { ledger } = aLedgerOf(...Array.from({ length: SAMPLE }, () => ({})))
    const search = aSearch(ledger, anAsk())
    const chosen = Array.from({ length: 50 }, () => {
      const run = anId("run")
      const nodes = [0, 1, 2, 3].map((start) => schedule(ledger.blocks, search, run, start).node?.id)
      expect(new Set(nodes).size).toBe(1)
      return nodes[0]
    })
    expect(new Set(chosen).size).toBeGreaterThan(20)
  })

  it("finds the one node that fits among many that do not, wherever the search begins", () => {
    const rows = Array.from({ length: 20 * BLOCK_NODES }, () => ({ ready: false }))
    const { ledger, nodes } = aLedgerOf(...rows)
    const fitting = nodes[137]
    if (fitting) ledger.setReady(fitting.id, true)
    for (let start = 0; start < 20; start++)
      expect(schedule(ledger.blocks, aSearch(ledger, anAsk()), anId("run"), start).node).toBe(fitting)
  })

  it("finds room that has come free in a block that was looked at in vain", () => {
    const { ledger, nodes } = aLedgerOf({}, {})
    const held = nodes.map(({ id }) => book(ledger, id, BUSY))
    const find = () => schedule(ledger.blocks, aSearch(ledger, anAsk()), anId("run"), 0).node
    expect(find()).toBeUndefined()
    expect(find()).toBeUndefined()
    const [row] = held
    if (row) ledger.credit(row.node_id, row)
    expect(find()?.id).toBe(row?.node_id)
  })

  it("finds a node that has grown, and one that has come", () => {
    const { ledger, nodes } = aLedgerOf({}, {})
    for (const { id } of nodes) book(ledger, id, BUSY)
    const find = () => schedule(ledger.blocks, aSearch(ledger, anAsk()), anId("run"), 0).node?.id
    expect(find()).toBeUndefined()
    const [grown] = nodes
    const row = aNodeRow({ node_id: grown?.id ?? anId("nod") })
    ledger.put({ ...row, capacity: { ...row.capacity, cpus: 5 } })
    expect(find()).toBe(grown?.id)
    ledger.forget(row.node_id)
    expect(find()).toBeUndefined()
    const come = aNodeRow()
    ledger.put(come)
    expect(find()).toBe(come.node_id)
  })

  it("counts why nothing fits, most first", () => {
    const { ledger, nodes } = aLedgerOf({ ready: false }, {}, {})
    for (const { id } of nodes) book(ledger, id, BUSY)
    expect(countRefusals(nodes, aSearch(ledger, anAsk()))).toEqual([
      { reason: "has too few processors free", nodes: 2 },
      { reason: "is not ready", nodes: 1 },
    ])
  })

  it("comes by every block, however many there are", () => {
    for (let length = 1; length < 300; length++) {
      const step = strideOf(length)
      const met = new Set(Array.from({ length }, (_, i) => (i * step) % length))
      expect(met.size, `${length} by ${step}`).toBe(length)
    }
  })
})

describe("an explanation", () => {
  it("names every node, best first, with each scorer's part, and counts the refusals", () => {
    const { ledger, nodes } = aLedgerOf({ labels: { region: "eu-1" } }, {}, { ready: false })
    const [idle, loaded, away] = nodes
    if (loaded) book(ledger, loaded.id, { cpus: 2, memory_bytes: 4 * GIB })
    const told = explain(anId("cel"), nodes, aSearch(ledger, anAsk()))
    expect(told.nodes.map(({ node_id, reason }) => [node_id, reason])).toEqual([
      [idle?.id, null],
      [loaded?.id, null],
      [away?.id, "is not ready"],
    ])
    expect(told.nodes[0]).toMatchObject({ scores: { image: 0, failures: 1 } })
    expect(told.nodes[2]).toMatchObject({ score: null, scores: {} })
    expect(told).toMatchObject({ region: "eu-1", fitting: 2, refused: [{ reason: "is not ready", nodes: 1 }] })
  })

  it("has no region where nothing fits", () => {
    const { ledger, nodes } = aLedgerOf({ labels: { region: "eu-1" }, ready: false })
    expect(explain(anId("cel"), nodes, aSearch(ledger, anAsk()))).toMatchObject({ region: null, fitting: 0 })
  })
})

describe("a standing refusal", () => {
  const refused = [{ reason: "has too few processors free", nodes: 2 }]
  const large = anAsk({ resources: someResources({ cpus: 4 }) })

  it("falls when a node would take the run, and stands as long as none does", () => {
    const { ledger, nodes } = aLedgerOf({}, {})
    const held = nodes.map(({ id }) => [book(ledger, id, { cpus: 2 }), book(ledger, id, { cpus: 1 })] as const)
    const refusals = new Refusals()
    refusals.add(aSearch(ledger, large), refused)
    const free = (row: (typeof held)[number][number]) => {
      const node = ledger.credit(row.node_id, row)
      if (node) refusals.changed(node)
      return refusals.get(aSearch(ledger, large))
    }
    for (const [first] of held) expect(free(first)).toBe(refused)
    expect(held[0] && free(held[0][1])).toBeUndefined()
  })

  it("is of the same ask alone", () => {
    const { ledger } = aLedgerOf({})
    const refusals = new Refusals()
    refusals.add(aSearch(ledger, large), refused)
    expect(refusals.get(aSearch(ledger, { ...large, run_ids: [anId("run")], image: "other" }))).toBe(refused)
    expect(refusals.get(aSearch(ledger, anAsk({ tenant_id: large.tenant_id })))).toBeUndefined()
    expect(refusals.get(aSearch(ledger, { ...large, tenant_id: anId("ten") }))).toBeUndefined()
  })

  it("is not kept of an ask that looks at other runs", () => {
    const { ledger } = aLedgerOf({})
    const refusals = new Refusals()
    const grouped = anAsk({ placement: { group: "web", spread: { limit: 1 } } })
    refusals.add(aSearch(ledger, grouped), refused)
    expect(refusals.get(aSearch(ledger, grouped))).toBeUndefined()
  })
})
