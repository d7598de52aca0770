import { evictDurableObject } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { CellObject } from "../../durable/cell/object.ts"
import { NodeObject } from "../../durable/node/object.ts"
import { aCall, aControlPlane, refusal } from "../support/control-plane.ts"
import { aCreate } from "../support/factories.ts"
import { waitFor } from "../support/wait-for.ts"

const EVERYTHING = { cursor: null, limit: 1000, labels: [], status: null } as const
const MANY = 50
const small = { resources: { cpus: 0.01, memory_bytes: 8 * 1024 ** 2, pids: 8, disk_bytes: 16 * 1024 ** 2 } }

afterEach(() => vi.restoreAllMocks())

describe("a batch", () => {
  it("is placed by one call, told to each node by one, and runs", async () => {
    const { tenant, node } = await aControlPlane()
    const nodes = await Promise.all([node(), node()])
    const place = vi.spyOn(CellObject.prototype, "place")
    const assign = vi.spyOn(NodeObject.prototype, "assign")
    const { status, body } = await tenant.createBatch(aCall(), { count: MANY, container: aCreate({ name: "web", ...small }) })
    expect(status).toBe(201)
    expect(body.items.map(({ name }) => name)).toEqual(Array.from({ length: MANY }, (_, i) => `web-${i + 1}`))
    expect(new Set(body.items.map(({ id }) => id)).size).toBe(MANY)
    expect(body.items.every((item) => item.status === "scheduling")).toBe(true)
    await waitFor("all to run", async () => {
      const { items } = await tenant.listContainers({ ...EVERYTHING, status: "running" })
      return items.length === MANY
    })
    expect(place).toHaveBeenCalledOnce()
    expect(place.mock.calls[0]?.[1]).toMatchObject([{ run_ids: { length: MANY } }])
    expect(assign).toHaveBeenCalledTimes(nodes.filter(({ assignments }) => assignments.size > 0).length)
    const { items: events } = await tenant.listEvents({ after: null, types: [], container: body.items[0]?.id ?? null, limit: 10 })
    expect(events.map(({ type }) => type).slice(0, 2)).toEqual(["container.created", "container.scheduling"])
    const one = await tenant.getContainer("web-7")
    expect(one).toMatchObject({ status: "running", run: { attempt: 1 }, resources: small.resources })
  })

  it("is made whole or not at all", async () => {
    const { tenant } = await aControlPlane({ quota: { containers: 5 } })
    expect((await refusal(() => tenant.createBatch(aCall(), { count: 6, container: aCreate() }))).code).toBe("quota_exceeded")
    await tenant.createContainer(aCall(), aCreate({ name: "web-2", start: false }))
    const taken = await refusal(() => tenant.createBatch(aCall(), { count: 3, container: aCreate({ name: "web" }) }))
    expect(taken).toMatchObject({ code: "name_taken", message: expect.stringContaining("web-2") })
    expect((await tenant.listContainers(EVERYTHING)).items).toHaveLength(1)
    expect((await tenant.createBatch(aCall(), { count: 5, container: aCreate() })).body.items).toHaveLength(5)
  })

  it("counts against the quota until its containers have ended, as others do", async () => {
    const { tenant } = await aControlPlane({ quota: { containers: 3 } })
    await tenant.createBatch(aCall(), { count: 2, container: aCreate({ start: false, name: "idle" }) })
    await tenant.createBatch(aCall(), { count: 3, container: aCreate() })
    expect((await refusal(() => tenant.act(aCall(), "idle-1", { kind: "start" }))).code).toBe("quota_exceeded")
  })

  it("answers a repeat with the same containers, and makes none anew", async () => {
    const { tenant, tenantStub } = await aControlPlane()
    const batch = { count: 3, container: aCreate() }
    const first = await tenant.createBatch(aCall("k"), batch)
    expect(await tenant.createBatch(aCall("k"), batch)).toEqual({ ...first, replayed: true })
    await evictDurableObject(tenantStub)
    expect(await tenant.createBatch(aCall("k"), batch)).toEqual({ ...first, replayed: true })
    expect((await tenant.listContainers(EVERYTHING)).items).toHaveLength(3)
    expect((await refusal(() => tenant.createBatch(aCall("k", "other"), batch))).code).toBe("idempotency_mismatch")
  })
})

describe("a dry run", () => {
  it("says where it would go and counts why not elsewhere, and changes nothing", async () => {
    const { tenant, cell, node } = await aControlPlane()
    await node({ facts: { labels: { region: "eu-1", disk: "ssd" } } })
    await node()
    const create = aCreate({ placement: { labels: { disk: "ssd" } } })
    const before = await cell.listNodes()
    expect(await tenant.dryRun(create)).toMatchObject({
      placeable: true,
      fitting_nodes: 1,
      node_region: "eu-1",
      refused: [{ reason: "does not have the labels asked for", nodes: 1 }],
      warnings: [],
    })
    expect(await cell.listNodes()).toEqual(before)
    expect((await tenant.listContainers(EVERYTHING)).items).toEqual([])
    expect((await tenant.listEvents({ after: null, types: [], container: null, limit: 10 })).items).toEqual([])
  })

  it("tells operators each node, with its scores or its reason", async () => {
    const { tenant, cellId, node } = await aControlPlane()
    const fitting = await node({ facts: { labels: { region: "eu-1", disk: "ssd" } } })
    const other = await node()
    const { node_id, nodes } = await tenant.explain(aCreate({ placement: { labels: { disk: "ssd" } } }))
    expect(node_id).toBe(fitting.nodeId)
    expect(nodes).toMatchObject([
      { node_id: fitting.nodeId, cell_id: cellId, reason: null, score: expect.any(Number) },
      { node_id: other.nodeId, cell_id: cellId, reason: "does not have the labels asked for", score: null },
    ])
    expect(nodes[0]?.scores).toHaveProperty("spread")
  })

  it("refuses what a create would be refused", async () => {
    const { tenant } = await aControlPlane({ quota: { containers: 0 }, policy: { capabilities: "none" } })
    expect((await refusal(() => tenant.dryRun(aCreate()))).code).toBe("quota_exceeded")
    expect((await refusal(() => tenant.explain(aCreate({ capabilities: ["CAP_KILL"] })))).code).toBe("policy_refused")
    expect(await tenant.dryRun(aCreate({ start: false }))).toMatchObject({ placeable: false, refused: [] })
  })
})
