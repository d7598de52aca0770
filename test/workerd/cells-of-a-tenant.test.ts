import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { CellObject } from "../../durable/cell/object.ts"
import { NodeObject } from "../../durable/node/object.ts"
import { Quota } from "../../schema/api.ts"
import { aCall, aControlPlane, peers } from "../support/control-plane.ts"
import { aCreate, anId, GIB } from "../support/factories.ts"
import { waitFor } from "../support/wait-for.ts"

const running = { status: "running", run: null, timeout_ms: 5_000 } as const
const capacity = (cpus: number) => ({ cpus, memory_bytes: 64 * GIB, pids: 10_000, runs: 100, disk_bytes: 1000 * GIB })

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** The alarm, as often as it is due by a clock that goes fast. */
async function alarmUntil(stub: DurableObjectStub, mended: () => Promise<boolean>) {
  vi.useFakeTimers({ toFake: ["Date"] })
  await waitFor("the alarm to mend it", async () => {
    vi.setSystemTime(Date.now() + 6_000)
    await runDurableObjectAlarm(stub)
    return mended()
  })
}

const reserved = async (cell: ReturnType<typeof peers.cell>) =>
  (await cell.listNodes()).reduce((sum, node) => sum + node.reserved.runs, 0)

async function twoCells() {
  const [a, b] = [anId("cel"), anId("cel")]
  const plane = await aControlPlane({ cells: [a, b] })
  return { ...plane, cells: [peers.cell(a), peers.cell(b)] as const, in: (cellId: typeof a, cpus: number) => plane.node({ cellId, facts: { capacity: capacity(cpus) } }), a, b } // prettier-ignore
}

describe("a tenant of two cells", () => {
  it("asks the roomier one first", async () => {
    const { tenant, cells, a, b, in: nodeIn } = await twoCells()
    await nodeIn(a, 4)
    await nodeIn(b, 4)
    await cells[0].place(a, [{ run_ids: [anId("run")], tenant_id: anId("ten"), image: "x", resources: aCreate({ resources: { cpus: 3 } }).resources, profile: "hardened", features: [], refuse_vulnerable: false, placement: aCreate().placement }]) // prettier-ignore
    const { body } = await tenant.createContainer(aCall(), aCreate({ resources: { cpus: 0.5 } }))
    await tenant.wait(body.id, running)
    expect([await reserved(cells[0]), await reserved(cells[1])]).toEqual([1, 1])
  })

  it("falls over to the next when one has no capacity, and says what both refused when neither has", async () => {
    const { tenant, cells, a, b, in: nodeIn } = await twoCells()
    await nodeIn(a, 8)
    await nodeIn(b, 1)
    await nodeIn(b, 1)
    const big = await tenant.createContainer(aCall(), aCreate({ resources: { cpus: 8 } }))
    expect((await tenant.wait(big.body.id, running)).reached).toBe(true)
    expect([await reserved(cells[0]), await reserved(cells[1])]).toEqual([1, 0])
    const none = await tenant.createContainer(aCall(), aCreate({ resources: { cpus: 8 } }))
    expect(none.body.reason?.message).toContain("3 nodes: has too few processors free")
    await tenant.act(aCall(), big.body.id, { kind: "remove", force: true })
    expect((await tenant.wait(none.body.id, running)).reached).toBe(true)
  })

  it("asks a cell that did not answer again before any other, for it may have placed the run", async () => {
    const { tenant, tenantStub, cells, a, b, in: nodeIn } = await twoCells()
    await nodeIn(a, 8)
    await nodeIn(b, 8)
    const place = CellObject.prototype.place
    const asked: string[] = []
    let lost = 0
    vi.spyOn(CellObject.prototype, "place").mockImplementation(async function (this: CellObject, cellId, asks) {
      asked.push(cellId)
      const answer = await place.call(this, cellId, asks)
      if (lost++ < 3) throw new Error("the answer was lost")
      return answer
    })
    const { body } = await tenant.createContainer(aCall(), aCreate())
    await evictDurableObject(tenantStub)
    await alarmUntil(tenantStub, async () => (await tenant.getContainer(body.id)).status === "running")
    expect(new Set(asked).size).toBe(1)
    expect((await reserved(cells[0])) + (await reserved(cells[1]))).toBe(1)
  })

  it("asks the same cell after a crash between the node's yes and its own record", async () => {
    const { tenant, tenantStub, cells, a, b, in: nodeIn } = await twoCells()
    await nodeIn(a, 8)
    await nodeIn(b, 8)
    vi.spyOn(NodeObject.prototype, "assign").mockRejectedValueOnce(new Error("the node's object did not answer"))
    const { body } = await tenant.createContainer(aCall(), aCreate())
    await evictDurableObject(tenantStub)
    await alarmUntil(tenantStub, async () => (await tenant.getContainer(body.id)).status === "running")
    expect((await reserved(cells[0])) + (await reserved(cells[1]))).toBe(1)
    await tenant.act(aCall(), body.id, { kind: "remove", force: true })
    await waitFor("both to be empty", async () => (await reserved(cells[0])) + (await reserved(cells[1])) === 0)
  })

  it("keeps a group that is spread by a label in one cell, which alone can count it", async () => {
    const { tenant, cells, a, b, in: nodeIn } = await twoCells()
    for (const cell of [a, b]) await nodeIn(cell, 8)
    const zoned = (cellId: typeof a, zone: string) => ({ cellId, facts: { labels: { zone }, capacity: capacity(8) } })
    const plane = await aControlPlane({ cells: [a, b] })
    for (const cell of [a, b]) for (const zone of ["z1", "z2"]) await plane.node(zoned(cell, zone))
    const create = aCreate({ placement: { group: "web", spread: { by: "zone", limit: 1 } } })
    const made = await Promise.all([1, 2, 3].map(() => tenant.createContainer(aCall(), create)))
    await waitFor("two to run", async () => {
      const all = await Promise.all(made.map(({ body }) => tenant.getContainer(body.id)))
      return (
        all.filter(({ status }) => status === "running").length === 2 && all.some(({ reason }) => reason?.code === "no_capacity")
      )
    })
    expect([await reserved(cells[0]), await reserved(cells[1])].toSorted()).toEqual([0, 2])
  })

  it("goes to a cell that is made later, once the tenant was told of it", async () => {
    const { tenant, tenantId, cellId } = await aControlPlane()
    const { body } = await tenant.createContainer(aCall(), aCreate())
    expect(body.reason?.code).toBe("no_capacity")
    const later = anId("cel")
    const plane = await aControlPlane({ cells: [later] })
    await plane.node()
    const quota = Quota.parse({ containers: 10, cpus: 10, memory_bytes: GIB * 100 })
    await tenant.configure({ tenant_id: tenantId, name: "acme", quota, policy: { capabilities: "default", on_deviation: "report", vulnerable_nodes: "allow" }, revision: 2, cells: [cellId, later] }) // prettier-ignore
    expect((await tenant.wait(body.id, running)).reached).toBe(true)
  })
})
