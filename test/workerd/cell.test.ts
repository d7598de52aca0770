import { evictDurableObject } from "cloudflare:test"
import { describe, expect, it } from "vitest"
import type { Ask, CellRpc } from "../../durable/shared/rpc.ts"
import { peers, stubs } from "../support/control-plane.ts"
import { anId, GIB, someFacts } from "../support/factories.ts"
import { PlacementWish, Resources } from "../../schema/container.ts"
import type { NodeId } from "../../schema/ids.ts"

const anAsk = (changes: Partial<Ask> = {}): Ask => ({
  features: ["disk_quota"],
  refuse_vulnerable: false,
  run_ids: [anId("run")],
  tenant_id: anId("ten"),
  image: "app:1",
  resources: Resources.parse({ cpus: 0.1, memory_bytes: GIB / 8 }),
  profile: "hardened",
  placement: PlacementWish.parse({}),
  ...changes,
})

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
  for (let i = 0; i < nodes; i++) {
    const node_id = anId("nod")
    await cell.registerNode(cellId, { ...anOffer(node_id), hostname: `h${i}`, capacity })
    await cell.setNodeReady(node_id, true, null)
  }
  return { cellId, cell }
}

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
    const [placement] = await cell.place(cellId, [anAsk({ placement: PlacementWish.parse({ labels: { zone: "b" } }) })])
    expect(placement).toMatchObject({
      node_id: null,
      refused: [
        { reason: "does not have the labels asked for", nodes: 2 },
        { reason: "has too few processors free", nodes: 1 },
      ],
    })
  })

  it("places a batch of a thousand in one call", async () => {
    const { cellId, cell } = await aCell(50)
    const rates: number[] = []
    for (let i = 0; i < 5; i++) {
      const asks = Array.from({ length: 1000 }, () => anAsk())
      const began = performance.now()
      const placements = await cell.place(cellId, asks)
      rates.push(1000 / ((performance.now() - began) / 1000))
      expect(placements.every((placement) => placement.node_id !== null)).toBe(true)
    }
    console.info("placements a second:", rates.map(Math.round).join(" "))
    expect((await cell.listNodes()).reduce((sum, node) => sum + node.reserved.runs, 0)).toBe(5000)
  })
})
