/** What operators do to a node, through the real objects: each call is repeated, each object is evicted, each telling fails once. */
import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { CellObject } from "../../durable/cell/object.ts"
import { FORCE_AFTER_MS } from "../../durable/node/drain.ts"
import { TenantObject } from "../../durable/tenant/object.ts"
import type { Container } from "../../schema/api.ts"
import { aCall, aControlPlane, peers, refusal, stubs } from "../support/control-plane.ts"
import { aCreate, anId } from "../support/factories.ts"

const HOUR_MS = 3_600_000

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

async function aNode() {
  const plane = await aControlPlane()
  const host = await plane.node()
  /** One that finds no place. */
  const waiting = async () => {
    const { body } = await plane.tenant.createContainer(aCall(), aCreate())
    await expect.poll(async () => (await plane.tenant.getContainer(body.id)).reason?.code).toBe("no_capacity")
    return body.id
  }
  const running = async (changes: Parameters<typeof aCreate>[0] = {}) => {
    const { body } = await plane.tenant.createContainer(aCall(), aCreate(changes))
    const { container } = await plane.tenant.wait(body.id, { status: "running", run: null, timeout_ms: 5_000 })
    if (!container.run || container.status !== "running") throw new Error(`not running but ${container.status}`)
    return { id: container.id, run: container.run.id }
  }
  const object = peers.node(host.nodeId)
  const listed = async () => (await plane.cell.listNodes()).find((node) => node.node_id === host.nodeId)
  const runOf = async (id: Container["id"]) => (await plane.tenant.getContainer(id)).run
  const eventsOf = async (id: Container["id"]) =>
    (await plane.tenant.listEvents({ after: null, types: [], container: id, limit: 100 })).items.map(({ type }) => type)
  return { ...plane, host, object, nodeStub: stubs.node(host.nodeId), waiting, running, listed, runOf, eventsOf }
}

/** Time passes, and the alarm that is set goes off. */
async function later(nodeStub: DurableObjectStub, ms: number) {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + ms })
  await runDurableObjectAlarm(nodeStub)
}

describe("a cordoned node", () => {
  it("is given nothing new, keeps what it has, and says why", async () => {
    const { object, running, waiting, listed, runOf } = await aNode()
    const { id, run } = await running()
    for (let i = 0; i < 2; i++) await object.cordon("new memory")
    expect(await listed()).toMatchObject({ ready: false })
    const other = await waiting()
    expect(await runOf(id)).toMatchObject({ id: run, state: "running" })
    expect(await object.status()).toMatchObject({ cordoned: true, accepting: false, reason: { code: "node_cordoned" } })
    for (let i = 0; i < 2; i++) await object.uncordon()
    await expect.poll(async () => (await runOf(other))?.state).toBe("running")
  })

  it("stays so when its object is evicted and the node comes back", async () => {
    const { object, nodeStub, host, node, listed } = await aNode()
    await object.cordon(null)
    await evictDurableObject(nodeStub, { webSockets: "close" })
    await node({ nodeId: host.nodeId, manual: true })
    expect(await listed()).toMatchObject({ ready: false })
    expect(await object.status()).toMatchObject({ connected: true, cordoned: true, accepting: false })
  })

  it("is told to its cell later when the cell does not answer now", async () => {
    const { object, nodeStub, listed } = await aNode()
    vi.spyOn(CellObject.prototype, "setNodeReady").mockRejectedValueOnce(new Error("busy"))
    await object.cordon(null)
    expect(await listed()).toMatchObject({ ready: true })
    await evictDurableObject(nodeStub)
    await runDurableObjectAlarm(nodeStub)
    expect(await listed()).toMatchObject({ ready: false })
  })

  it("is not one that has never connected", async () => {
    const object = peers.node(anId("nod"))
    const calls = [object.cordon(null), object.uncordon(), object.drain(0), object.setExclusive(null), object.moveTo(anId("cel"))]
    for (const call of calls) expect((await refusal(() => call)).code).toBe("not_found")
  })
})

describe("what a host finds wrong with itself", () => {
  it("keeps new runs away until it has passed", async () => {
    const { host, object, waiting, runOf, listed } = await aNode()
    const conditions = [{ kind: "memory_pressure" as const, message: "The node has only 3 MiB of memory left." }]
    const reason = { code: "memory_pressure", message: "The node has only 3 MiB of memory left." }
    host.send({ type: "condition", condition: { accepting: false, reason, conditions } })
    await expect.poll(async () => (await listed())?.ready).toBe(false)
    expect(await object.status()).toMatchObject({ accepting: false, reason, conditions })
    const other = await waiting()
    host.send({ type: "condition", condition: { accepting: true, reason: null, conditions: [] } })
    await expect.poll(async () => (await runOf(other))?.state).toBe("running")
  })
})

describe("a node that is kept for some tenants", () => {
  it("takes theirs alone from then on, and leaves what is there", async () => {
    const { object, running, waiting, runOf, tenantId } = await aNode()
    const { id } = await running()
    await object.setExclusive([anId("ten")])
    await waiting()
    expect((await runOf(id))?.state).toBe("running")
    expect((await object.status()).exclusive_to).toHaveLength(1)
    await object.setExclusive([tenantId])
    await running()
    await object.setExclusive(null)
    expect((await object.status()).exclusive_to).toBeNull()
  })
})

describe("a node that is emptied", () => {
  it("has its containers go elsewhere, and tells how far it has come", async () => {
    const { object, node, host, running, runOf, eventsOf } = await aNode()
    const moved = await Promise.all([
      running({ restart: { policy: "always" } }),
      running({ restart: { policy: "always" }, drain: "start_first" }),
    ])
    const other = await node()
    for (let i = 0; i < 2; i++) await object.drain(Date.now() + HOUR_MS)
    await expect.poll(() => other.assignments.size).toBe(2)
    for (const { id, run } of moved) {
      await expect.poll(async () => (await runOf(id))?.state).toBe("running")
      expect((await runOf(id))?.id).not.toBe(run)
      expect((await eventsOf(id)).filter((type) => type === "container.draining")).toHaveLength(1)
    }
    await expect.poll(async () => (await object.status()).drain?.runs_left).toBe(0)
    expect(await object.status()).toMatchObject({
      cordoned: true,
      drain: { runs_at_start: 2 },
      reason: { code: "node_draining" },
    })
    expect([...host.assignments.values()].every(({ desired }) => desired !== "running")).toBe(true)
  })

  it("starts the next run before it stops the old one, where the container allows it", async () => {
    const { object, node, host, running, runOf } = await aNode()
    const { id, run } = await running({ restart: { policy: "always" }, drain: "start_first" })
    const other = await node({ manual: true })
    await object.drain(Date.now() + HOUR_MS)
    await expect.poll(() => other.assignments.size).toBe(1)
    expect(host.assignments.get(run)?.desired).toBe("running")
    expect(await runOf(id)).toMatchObject({ id: run, state: "running" })
  })

  it("stops at the deadline what no restart policy would replace, and not before", async () => {
    const { object, nodeStub, node, host, running, tenant } = await aNode()
    const { id, run } = await running()
    await node()
    await object.drain(Date.now() + HOUR_MS)
    await later(nodeStub, HOUR_MS / 2)
    expect(host.assignments.get(run)?.desired).toBe("running")
    expect((await object.status()).drain).toMatchObject({ runs_at_start: 1, runs_left: 1 })
    await later(nodeStub, HOUR_MS / 2 + 1)
    await expect.poll(() => host.assignments.get(run)?.desired ?? "removed").not.toBe("running")
    await expect.poll(async () => (await object.status()).drain?.runs_left).toBe(0)
    await expect.poll(async () => (await tenant.getContainer(id)).status).not.toBe("stopping")
  })

  it("goes on when its object was evicted before anybody was told", async () => {
    const { object, nodeStub, host, node, running } = await aNode()
    const { run } = await running({ restart: { policy: "always" } })
    const other = await node()
    vi.spyOn(TenantObject.prototype, "evacuate").mockRejectedValueOnce(new Error("busy"))
    await object.drain(Date.now() + HOUR_MS)
    expect(other.assignments.size).toBe(0)
    await evictDurableObject(nodeStub)
    await runDurableObjectAlarm(nodeStub)
    await expect.poll(() => other.assignments.size).toBe(1)
    await expect.poll(() => host.assignments.get(run)?.desired ?? "removed").not.toBe("running")
  })

  it("has those leave as well that had been placed before its cell heard of it", async () => {
    const { object, nodeStub, host, node, running } = await aNode()
    const { run } = await running({ restart: { policy: "always" } })
    const body = host.assignments.get(run)
    if (!body) throw new Error("no assignment")
    const other = await node()
    // Its tenant had not handed it over when it was asked.
    vi.spyOn(TenantObject.prototype, "evacuate").mockResolvedValueOnce()
    await object.drain(Date.now() + HOUR_MS)
    await object.assign([{ ...body, stop_timeout_seconds: 1 }])
    await runDurableObjectAlarm(nodeStub)
    await expect.poll(() => other.assignments.size).toBe(1)
  })

  it("is stopped past a tenant's object that does nothing about it", async () => {
    const { object, nodeStub, host, running } = await aNode()
    const { run } = await running()
    vi.spyOn(TenantObject.prototype, "evacuate").mockResolvedValue()
    await object.drain(Date.now())
    expect(host.assignments.get(run)?.desired).toBe("running")
    await later(nodeStub, FORCE_AFTER_MS)
    await expect.poll(() => host.assignments.get(run)?.desired ?? "removed").toMatch(/stopped|removed/)
    await expect.poll(async () => (await object.status()).drain?.runs_left).toBe(0)
  })

  it("is given runs again once it is uncordoned", async () => {
    const { object, running } = await aNode()
    await object.drain(Date.now() + HOUR_MS)
    await object.uncordon()
    expect(await object.status()).toMatchObject({ cordoned: false, drain: null, accepting: true })
    await running()
  })
})

describe("a node that moves to another cell", () => {
  it("must be drained first", async () => {
    const { object, running, tenant, listed } = await aNode()
    const { id } = await running()
    const move = () => refusal(() => object.moveTo(anId("cel")))
    expect(await move()).toMatchObject({ code: "action_not_allowed", message: expect.stringContaining("Drain the node first") })
    await object.cordon(null)
    expect((await move()).message).toBe("Drain the node first: 1 runs are still assigned to it.")
    await tenant.act(aCall(), id, { kind: "remove", force: true })
    await tenant.wait(id, { status: "removed", run: null, timeout_ms: 5_000 })
    await expect.poll(async () => (await listed())?.reserved.runs).toBe(0)
    await object.moveTo(anId("cel"))
    expect(await listed()).toBeUndefined()
  })

  it("is in one cell at a time, and may be given runs by the new one", async () => {
    const { object, host, cell, cellId } = await aNode()
    const next = anId("cel")
    await object.cordon(null)
    for (let i = 0; i < 2; i++) await object.moveTo(next)
    expect(await cell.listNodes()).toEqual([])
    expect(await peers.cell(next).listNodes()).toMatchObject([{ node_id: host.nodeId, ready: false }])
    await object.uncordon()
    expect(await peers.cell(next).listNodes()).toMatchObject([{ ready: true }])
    await object.cordon(null)
    await object.moveTo(cellId)
    expect(await cell.listNodes()).toMatchObject([{ node_id: host.nodeId }])
  })

  it("stays where it was when it is refused half-way", async () => {
    const { object, nodeStub, cell, host } = await aNode()
    await object.cordon(null)
    vi.spyOn(CellObject.prototype, "forgetNode").mockRejectedValueOnce(new Error("busy"))
    expect((await refusal(() => object.moveTo(anId("cel")))).code).toBe("unavailable")
    await evictDurableObject(nodeStub)
    await runDurableObjectAlarm(nodeStub)
    expect(await cell.listNodes()).toMatchObject([{ node_id: host.nodeId, ready: false }])
  })

  it("is not moved while its cell keeps room on it for a run that has yet to come", async () => {
    const { object, cell, cellId, tenantId } = await aNode()
    const ask = {
      run_ids: [anId("run")],
      tenant_id: tenantId,
      image: "app:1",
      resources: aCreate().resources,
      profile: "hardened" as const,
      features: [],
      refuse_vulnerable: false,
      placement: aCreate().placement,
    }
    await cell.place(cellId, [ask])
    await object.cordon(null)
    expect((await refusal(() => object.moveTo(anId("cel")))).message).toContain("keeps room on it for 1 runs")
    await cell.release(ask.run_ids, [])
    await object.moveTo(anId("cel"))
  })
})
