import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { CellObject } from "../../durable/cell/object.ts"
import { NodeObject } from "../../durable/node/object.ts"
import { aCall, aControlPlane, peers, refusal, stubs } from "../support/control-plane.ts"
import { waitFor } from "../support/wait-for.ts"
import { aCreate, anExit, anObservation, GIB } from "../support/factories.ts"

const running = { status: "running", run: null, timeout_ms: 5_000 } as const

/** The objects' clock, moved on; alarms go by real time, so tests fire them by hand. */
const later = (ms: number) => vi.setSystemTime(Date.now() + ms)

/** The alarm, as often as it is due by a clock that goes fast, until it has mended what failed. */
async function alarmUntil(stub: DurableObjectStub, mended: () => Promise<boolean>) {
  vi.useFakeTimers({ toFake: ["Date"] })
  await waitFor("the alarm to mend it", async () => {
    later(6_000)
    await runDurableObjectAlarm(stub)
    return mended()
  })
}

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

describe("a container without a node that fits", () => {
  it("waits in scheduling with counted reasons and starts by itself when a node joins", async () => {
    const { tenant, node } = await aControlPlane()
    await node({ facts: { capacity: { cpus: 8, memory_bytes: GIB, pids: 1000, runs: 10, disk_bytes: 100 * GIB } } })
    await node({ condition: { accepting: false, reason: { code: "drained", message: "drained" }, conditions: [] } })
    const { status, body } = await tenant.createContainer(aCall(), aCreate({ resources: { memory_bytes: 2 * GIB } }))
    expect(status).toBe(201)
    expect(body.status).toBe("scheduling")
    expect(body.reason?.code).toBe("no_capacity")
    expect(body.reason?.message).toContain("1 node: has too little memory free; 1 node: is not ready")
    await node()
    expect((await tenant.wait(body.id, running)).container).toMatchObject({ status: "running", reason: null })
  })

  it("takes the place of one that is removed", async () => {
    const { tenant, node } = await aControlPlane()
    await node({ facts: { capacity: { cpus: 8, memory_bytes: GIB, pids: 1000, runs: 1, disk_bytes: 100 * GIB } } })
    const first = await tenant.createContainer(aCall(), aCreate())
    const second = await tenant.createContainer(aCall(), aCreate())
    expect(second.body.reason?.code).toBe("no_capacity")
    await tenant.act(aCall(), first.body.id, { kind: "remove", force: true })
    expect((await tenant.wait(second.body.id, running)).reached).toBe(true)
  })
})

describe("calls that fail", () => {
  it("are made again by the alarm: placement", async () => {
    const { tenant, node, tenantStub } = await aControlPlane()
    await node()
    vi.spyOn(CellObject.prototype, "place").mockRejectedValueOnce(new Error("the cell is down"))
    const { body } = await tenant.createContainer(aCall(), aCreate())
    expect(body).toMatchObject({ status: "scheduling", run: { state: "pending" } })
    await alarmUntil(tenantStub, async () => (await tenant.getContainer(body.id)).status === "running")
  })

  it("are made again by the alarm: assignment", async () => {
    const { tenant, node, tenantStub } = await aControlPlane()
    await node()
    vi.spyOn(NodeObject.prototype, "assign").mockRejectedValueOnce(new Error("the node object is down"))
    const { body } = await tenant.createContainer(aCall(), aCreate())
    expect(body.run?.state).toBe("placed")
    await alarmUntil(tenantStub, async () => (await tenant.getContainer(body.id)).status === "running")
  })

  it("are made again by the alarm: giving a reservation back", async () => {
    const { tenant, node, cell, tenantStub } = await aControlPlane()
    await node({ endsWith: () => ({ state: "completed", code: 0 }) })
    const release = vi.spyOn(CellObject.prototype, "release").mockRejectedValueOnce(new Error("the cell is down"))
    const { body } = await tenant.createContainer(aCall(), aCreate())
    await tenant.wait(body.id, { ...running, status: "exited" })
    await expect.poll(() => release.mock.calls.length).toBe(1)
    expect((await cell.listNodes())[0]?.reserved.runs).toBe(1)
    await alarmUntil(tenantStub, async () => (await cell.listNodes())[0]?.reserved.runs === 0)
  })

  it("drop the node's session when a report could not be stored, so that the bridge sends it again", async () => {
    const { tenant, node, tenantId } = await aControlPlane()
    const host = await node({ manual: true })
    const { body } = await tenant.createContainer(aCall(), aCreate())
    const run = body.run?.id
    if (!run) throw new Error("no run")
    await host.assigned(run)
    const { TenantObject } = await import("../../durable/tenant/object.ts")
    vi.spyOn(TenantObject.prototype, "observe").mockRejectedValueOnce(new Error(`${tenantId} is down`))
    host.report([anObservation(run)])
    await expect.poll(() => host.closed?.code).toBe(1013)
    const again = await node({ nodeId: host.nodeId, manual: true })
    await again.acknowledged(again.report([anObservation(run)]))
    expect((await tenant.getContainer(body.id)).status).toBe("running")
  })
})

describe("eviction", () => {
  it("of every object between any two steps loses nothing", async () => {
    const { tenant, node, tenantStub, cellStub } = await aControlPlane()
    const host = await node({ manual: true })
    const evict = async () => {
      for (const stub of [tenantStub, cellStub, stubs.node(host.nodeId)]) await evictDurableObject(stub).catch(() => {})
    }
    const { body } = await tenant.createContainer(aCall("k"), aCreate())
    const run = body.run?.id
    if (!run) throw new Error("no run")
    await host.assigned(run)
    await evict()
    expect((await tenant.createContainer(aCall("k"), aCreate())).replayed).toBe(true)
    await host.acknowledged(host.report([anObservation(run)]))
    await evict()
    expect((await tenant.getContainer(body.id)).status).toBe("running")
    await tenant.act(aCall(), body.id, { kind: "stop", timeout_seconds: null })
    await expect.poll(() => host.assignments.get(run)?.desired).toBe("stopped")
    await evict()
    await host.acknowledged(host.report([anObservation(run, { state: "stopped", revision: 2, exit: anExit({ by: "tenant" }) })]))
    await evict()
    expect(await tenant.getContainer(body.id)).toMatchObject({ status: "exited", run: { exit: { by: "tenant" } } })
  })
})

describe("a crash between a change and its stored answer", () => {
  it("makes nothing twice: the repeat is told of the container as it is now", async () => {
    const { tenant, tenantId, tenantStub } = await aControlPlane()
    // The cell never answers, so the call is still open when its object is lost.
    const place = vi.spyOn(CellObject.prototype, "place").mockReturnValueOnce(new Promise(() => {}))
    const lost = tenant.createContainer(aCall("k"), aCreate()).catch((error: unknown) => error)
    await expect.poll(() => place.mock.calls.length).toBe(1)
    await runInDurableObject(tenantStub, (_, state) => state.abort("crash")).catch(() => {})
    expect(await lost).toBeInstanceOf(Error)
    const again = await peers.tenant(tenantId).createContainer(aCall("k"), aCreate())
    expect(again).toMatchObject({ status: 201, replayed: true, body: { status: "scheduling" } })
    const { items } = await peers.tenant(tenantId).listContainers({ cursor: null, limit: 10, labels: [], status: null })
    expect(items.map((item) => item.id)).toEqual([again.body.id])
  })
})

describe("restarts and deadlines", () => {
  it("restart a failing container after a back-off that doubles, and say so", async () => {
    const { tenant, node } = await aControlPlane()
    await node({ endsWith: () => ({ state: "failed", code: 1 }) })
    const { body } = await tenant.createContainer(aCall(), aCreate({ restart: { policy: "on-failure", max_retries: 2 } }))
    const ended = await tenant.wait(body.id, { ...running, status: "exited" })
    expect(ended).toMatchObject({ reached: true, container: { restarts: 2, run: { attempt: 3, exit: { code: 1 } } } })
    const { items } = await tenant.listEvents({
      after: null,
      types: ["container.restart_scheduled"],
      container: body.id,
      limit: 9,
    })
    const waits = items.map((event) => Date.parse(event.data.next_run_at ?? "") - Date.parse(event.time))
    expect(waits).toEqual([100, 200])
  })

  it("give a run up that its node does not accept in time, and place another", async () => {
    const { tenant, node, tenantStub } = await aControlPlane()
    const host = await node({ manual: true })
    const { body } = await tenant.createContainer(aCall(), aCreate())
    const first = body.run?.id
    if (!first) throw new Error("no run")
    await host.assigned(first)
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 31_000 })
    await runDurableObjectAlarm(tenantStub)
    const { run } = await tenant.getContainer(body.id)
    expect(run?.attempt).toBe(2)
    await expect.poll(() => host.assignments.get(first)?.desired).toBe("removed")
    const { items } = await tenant.listEvents({ after: null, types: ["container.deadline_passed"], container: body.id, limit: 9 })
    expect(items[0]).toMatchObject({ run_id: first, data: { reason: { code: "deadline_exceeded" } } })
  })

  it("of several runs in one turn are all told to whoever follows the events", async () => {
    const { tenant, node, tenantStub } = await aControlPlane()
    await node({ manual: true })
    const names = ["one", "two", "three"]
    for (const name of names) {
      const { body } = await tenant.createContainer(aCall(), aCreate({ name }))
      await expect.poll(async () => (await tenant.getContainer(body.id)).run?.state).toBe("placed")
    }
    const passed = { after: null, types: ["container.deadline_passed"], container: null, limit: 9 }
    const follower = (await tenant.followEvents(passed)).getReader()
    let text = ""
    const read = async () => {
      text += new TextDecoder().decode((await follower.read()).value)
    }
    const first = read()
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 31_000 })
    await runDurableObjectAlarm(tenantStub)
    await first
    // What follows is told after all that came before it.
    await expect.poll(async () => (await tenant.getContainer("one")).run?.state).toBe("placed")
    later(31_000)
    await runDurableObjectAlarm(tenantStub)
    while (!text.includes('"attempt":2')) await read()
    for (const name of names) expect(text).toContain(`"container_name":"${name}"`)
    await follower.cancel()
  })

  it("end after five runs in a row that never came to running", async () => {
    const { tenant, node, tenantStub } = await aControlPlane()
    await node({ manual: true })
    const { body } = await tenant.createContainer(aCall(), aCreate())
    vi.useFakeTimers({ toFake: ["Date"] })
    for (let i = 0; i < 5; i++) {
      await expect.poll(async () => (await tenant.getContainer(body.id)).run?.state).toBe("placed")
      later(31_000)
      await runDurableObjectAlarm(tenantStub)
    }
    const given = await tenant.getContainer(body.id)
    expect(given).toMatchObject({ status: "lost", run: { attempt: 5 }, reason: { code: "gave_up" } })
    expect(given.reason?.message).toContain("5 runs in a row")
  })
})

describe("retention", () => {
  it("forgets removed containers and keys after a day, and events after a month", async () => {
    const { tenant, tenantStub } = await aControlPlane()
    const { body } = await tenant.createContainer(aCall("k"), aCreate({ start: false }))
    await tenant.act(aCall(), body.id, { kind: "remove", force: false })
    vi.useFakeTimers({ toFake: ["Date"] })
    later(25 * 3_600_000)
    await tenant.createContainer(aCall(), aCreate()) // sets the alarm
    await runDurableObjectAlarm(tenantStub)
    expect((await refusal(() => tenant.getContainer(body.id))).code).toBe("not_found")
    expect((await tenant.createContainer(aCall("k"), aCreate({ start: false }))).replayed).toBe(false)
    const all = { after: null, types: [], container: body.id, limit: 9 }
    expect((await tenant.listEvents(all)).items).toHaveLength(2)
    later(31 * 86_400_000)
    await runDurableObjectAlarm(tenantStub)
    expect((await refusal(() => tenant.listEvents(all))).code).toBe("not_found")
  })
})
