import { evictDurableObject } from "cloudflare:test"
import { describe, expect, it } from "vitest"
import type { CellRpc } from "../../durable/shared/rpc.ts"
import { peers, stubs } from "../support/control-plane.ts"
import { anId, GIB, someFacts } from "../support/factories.ts"
import type { Weights } from "../../schema/api.ts"
import { anAsk as anyAsk, someResources } from "../support/cell.ts"
import type { NodeId } from "../../schema/ids.ts"

type AskChanges = NonNullable<Parameters<typeof anyAsk>[0]>
const anAsk = (changes: AskChanges = {}) => anyAsk({ resources: someResources({ cpus: 0.1, memory_bytes: GIB / 8 }), ...changes })

const BIG = { cpus: 100_000, memory_bytes: 1e15, pids: 1e9, runs: 1_000_000, disk_bytes: 1e15 }
const anOffer = (node_id: NodeId): Parameters<CellRpc["registerNode"]>[1] => {
  const { hostname, profiles, devices, max_open_files } = someFacts()
  return {
    node_id,
    hostname,
    capacity: BIG,
    labels: { region: "eu-1" },
    profiles,
    devices,
    max_open_files,
    vulnerable: false,
    exclusive_to: null,
  }
}

async function aCell(nodes = 1, runs = 1_000_000) {
  const cellId = anId("cel")
  const cell = peers.cell(cellId)
  const capacity = { ...BIG, runs }
  const nodeIds = Array.from({ length: nodes }, () => anId("nod"))
  for (const node_id of nodeIds) {
    await cell.registerNode(cellId, { ...anOffer(node_id), capacity })
    await cell.setNodeReady(node_id, true, null)
  }
  return { cellId, cell, nodeIds }
}
/** Where each run went. */
const nodesOf = (placements: Awaited<ReturnType<CellRpc["place"]>>) => placements.map(({ node_id }) => node_id)
const twenty = () => Array.from({ length: 20 }, () => anAsk())
const NO_WEIGHTS: Weights = { spread: 0, bin_pack: 0, balance: 0, image: 0, failures: 0 }

describe("a cell", () => {
  it("answers a repeated ask with the same node and books it once", async () => {
    const { cellId, cell } = await aCell(3)
    const ask = anAsk()
    const [first] = await cell.place(cellId, [ask])
    expect(first?.node_id).not.toBeNull()
    await evictDurableObject(stubs.cell(cellId))
    expect(await cell.place(cellId, [ask, ask])).toEqual([first, first])
    expect((await cell.listNodes()).reduce((sum, node) => sum + node.reserved.runs, 0)).toBe(1)
  })

  it("credits a reservation once, however often it is released", async () => {
    const { cellId, cell } = await aCell()
    const [kept, given] = [anAsk(), anAsk()]
    await cell.place(cellId, [kept, given])
    await cell.release([...given.run_ids], [])
    await cell.release([...given.run_ids, anId("run")], [])
    expect((await cell.listNodes())[0]?.reserved).toMatchObject({ runs: 1, cpus: 0.1 })
  })

  it("counts what it booked in the same batch", async () => {
    const { cellId, cell } = await aCell(1, 2)
    const placements = await cell.place(cellId, [anAsk(), anAsk(), anAsk()])
    expect(placements.map((placement) => placement.node_id !== null)).toEqual([true, true, false])
    expect(placements[2]).toMatchObject({ refused: [{ reason: "holds as many containers as it may", nodes: 1 }] })
  })

  it("says why nothing fits, most nodes first", async () => {
    const { cellId, cell } = await aCell(2)
    const small = { ...BIG, cpus: 0.05, runs: 1 }
    const node_id = anId("nod")
    await cell.registerNode(cellId, { ...anOffer(node_id), capacity: small, labels: { zone: "b" } })
    await cell.setNodeReady(node_id, true, null)
    const [placement] = await cell.place(cellId, [anAsk({ placement: { labels: { zone: "b" } } })])
    expect(placement).toMatchObject({
      node_id: null,
      refused: [
        { reason: "does not have the labels asked for", nodes: 2 },
        { reason: "has too few processors free", nodes: 1 },
      ],
    })
  })

  it("places all runs of one ask, each once", async () => {
    const { cellId, cell } = await aCell(2, 2)
    const ask = anAsk({ run_ids: Array.from({ length: 5 }, () => anId("run")) })
    const placements = await cell.place(cellId, [ask])
    expect(placements.map(({ run_id }) => run_id)).toEqual(ask.run_ids)
    expect(nodesOf(placements).filter((id) => id === null)).toHaveLength(1)
    expect(await cell.place(cellId, [ask])).toEqual(placements)
    expect(await cell.room()).toMatchObject({ nodes: 2, ready_nodes: 2, runs: 4 })
  })

  it("keeps the runs of a group apart, as well after it has been out of memory", async () => {
    const { cellId, cell, nodeIds } = await aCell(3)
    const tenant_id = anId("ten")
    const member = () => anAsk({ tenant_id, placement: { group: "web", spread: { limit: 1 } } })
    const avoider = anAsk({ tenant_id, placement: { anti_affinity: ["web"] } })
    const first = await cell.place(cellId, [member(), avoider])
    await evictDurableObject(stubs.cell(cellId))
    const rest = await cell.place(cellId, [member(), member()])
    expect(new Set(nodesOf([...first, ...rest])).size).toBe(4) // three nodes, and none for the last
    expect(rest[1]).toMatchObject({
      refused: [
        { reason: "holds as many of its group as may be on one node", nodes: 2 },
        { reason: "holds a container that must not share a node with it", nodes: 1 },
      ],
    })
    await cell.release([...avoider.run_ids], [])
    expect(nodesOf(await cell.place(cellId, [member()]))[0]).not.toBeNull()
    expect(nodeIds).toHaveLength(3)
  })

  it("keeps a node for its tenants", async () => {
    const { cellId, cell, nodeIds } = await aCell()
    const [mine, other] = [anId("ten"), anId("ten")]
    await cell.registerNode(cellId, { ...anOffer(nodeIds[0] ?? anId("nod")), exclusive_to: [mine] })
    const placements = await cell.place(cellId, [anAsk({ tenant_id: mine }), anAsk({ tenant_id: other })])
    expect(placements).toMatchObject([{ node_id: nodeIds[0] }, { refused: [{ reason: "is kept for other tenants", nodes: 1 }] }])
  })

  it("places nothing on a node that is not ready, and says what a node lacks, without placing", async () => {
    const { cellId, cell, nodeIds } = await aCell(2)
    const [away, here] = nodeIds
    await cell.setNodeReady(away ?? anId("nod"), false, { code: "node_disconnected", message: "The node is not connected." })
    const { run_ids: _, ...ask } = anAsk()
    const told = await cell.explain(cellId, ask)
    expect(told).toMatchObject({ region: "eu-1", fitting: 1, refused: [{ reason: "is not ready", nodes: 1 }] })
    expect(told.nodes).toMatchObject([
      { node_id: here, cell_id: cellId, reason: null, scores: { balance: expect.any(Number), failures: 1, image: 0 } },
      { node_id: away, reason: "is not ready", score: null },
    ])
    expect(await cell.room()).toMatchObject({ nodes: 2, ready_nodes: 1, runs: 0, free_cpus: BIG.cpus })
  })

  it("weighs nodes as the operator says, and goes by the latest of what was said", async () => {
    const { cellId, cell } = await aCell(4)
    expect(new Set(nodesOf(await cell.place(cellId, twenty()))).size).toBe(1) // of nodes as good as empty, that with the image
    await cell.configure(cellId, { weights: { ...NO_WEIGHTS, spread: 1 }, revision: 2 })
    await cell.configure(cellId, { weights: { ...NO_WEIGHTS, bin_pack: 1 }, revision: 1 })
    await evictDurableObject(stubs.cell(cellId))
    expect(new Set(nodesOf(await cell.place(cellId, twenty()))).size).toBe(3)
    await cell.configure(cellId, { weights: { ...NO_WEIGHTS, bin_pack: 1 }, revision: 3 })
    expect(new Set(nodesOf(await cell.place(cellId, twenty()))).size).toBe(1)
  })

  it("remembers which images a node has run and which runs failed there, each failure once", async () => {
    const { cellId, cell } = await aCell(2)
    const { run_ids, ...ask } = anAsk({ image: "db:2" })
    const [node_id] = nodesOf(await cell.place(cellId, [{ run_ids, ...ask }]))
    await cell.release([...run_ids], [...run_ids])
    await cell.release([...run_ids], [...run_ids])
    await evictDurableObject(stubs.cell(cellId))
    const { nodes } = await cell.explain(cellId, ask)
    const scores = nodes.map((node) => ({ known: node.node_id === node_id, ...node.scores }))
    expect(scores.find(({ known }) => known)).toMatchObject({ image: 1 / 8, failures: expect.closeTo(0.5, 2) })
    expect(scores.find(({ known }) => !known)).toMatchObject({ image: 0, failures: 1 })
  })

  it("does not look again for what it refused, until a node would take it", async () => {
    const { cellId, cell } = await aCell(1, 1)
    const tenant_id = anId("ten")
    const holder = anAsk({ tenant_id })
    await cell.place(cellId, [holder])
    for (let i = 0; i < 3; i++) expect(nodesOf(await cell.place(cellId, [anAsk({ tenant_id })]))).toEqual([null])
    await cell.release([...holder.run_ids], [])
    expect(nodesOf(await cell.place(cellId, [anAsk({ tenant_id })]))[0]).not.toBeNull()
  })
})
