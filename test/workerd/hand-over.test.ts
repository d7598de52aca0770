/** Between a node's word that it has a run and the tenant's own record of it: what a crash, or a caller, may do there. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { NodeObject } from "../../durable/node/object.ts"
import { openDatabase } from "../../durable/shared/database.ts"
import { TenantStore } from "../../durable/tenant/store.ts"
import { aCall, aControlPlane, peers, stubs } from "../support/control-plane.ts"
import { aCreate, anObservation } from "../support/factories.ts"
import { aGroup } from "../support/rows.ts"

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** The next assignment reaches its node, whose answer to the tenant waits for `answer`. */
function holdAssign() {
  const real = NodeObject.prototype.assign
  const { promise, resolve } = Promise.withResolvers<void>()
  const held = vi.spyOn(NodeObject.prototype, "assign").mockImplementationOnce(async function (this: NodeObject, list) {
    const answer = await real.call(this, list)
    await promise
    return answer
  })
  return { held, answer: resolve }
}

/** A tenant whose object was lost after its node had been told of a run, and before that was on record. */
async function lost() {
  const plane = await aControlPlane()
  const host = await plane.node({ manual: true })
  const { held } = holdAssign()
  const open = plane.tenant.createContainer(aCall("k"), aCreate({ name: "web" })).catch((error: unknown) => error)
  await expect.poll(() => host.assignments.size).toBe(1)
  const [run] = host.assignments.keys()
  if (run === undefined) throw new Error("no run")
  await runInDurableObject(plane.tenantStub, (_, state) => state.abort("crash")).catch(() => {})
  expect(await open).toBeInstanceOf(Error)
  held.mockRestore()
  return { ...plane, host, run, tenant: peers.tenant(plane.tenantId), tenantStub: stubs.tenant(plane.tenantId) }
}

describe("a tenant's object that is lost before it wrote down where a run went", () => {
  it("learns it from the node, and neither ends that run nor begins another", async () => {
    const { tenant, tenantStub, cell, host, run } = await lost()
    expect(await tenant.getContainer("web")).toMatchObject({ status: "scheduling", run: { id: run, state: "pending" } })
    await host.acknowledged(host.report([anObservation(run)]))
    expect(await tenant.getContainer("web")).toMatchObject({ status: "running", run: { id: run, attempt: 1 } })
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 31_000 })
    await runDurableObjectAlarm(tenantStub)
    vi.useRealTimers()
    expect([...host.assignments.values()].map(({ desired }) => desired)).toEqual(["running"])

    // What it does not know it gives back all the same.
    await tenant.act(aCall(), "web", { kind: "remove", force: true })
    await expect.poll(() => host.assignments.get(run)?.desired).toBe("removed")
    host.report([anObservation(run, { state: "stopped", revision: 2 })], [run])
    await expect.poll(async () => (await cell.listNodes())[0]?.reserved.runs).toBe(0)
  })

  it("is named the same node again when it asks first", async () => {
    const { tenant, tenantStub, host, run } = await lost()
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 6_000 })
    await runDurableObjectAlarm(tenantStub)
    vi.useRealTimers()
    await expect.poll(async () => (await tenant.getContainer("web")).run?.state).toBe("placed")
    expect([...host.assignments.keys()]).toEqual([run])
    await host.acknowledged(host.report([anObservation(run)]))
    expect((await tenant.getContainer("web")).status).toBe("running")
  })

  it("has the run destroyed when its container was stopped before anybody spoke of it", async () => {
    const { tenant, host, run } = await lost()
    expect((await tenant.act(aCall(), "web", { kind: "stop", timeout_seconds: null })).body.status).toBe("exited")
    host.report([anObservation(run)])
    await expect.poll(() => host.assignments.get(run)?.desired).toBe("removed")
  })
})

it("what is done to a container while its node is told of it waits, and reaches the node", async () => {
  const { tenant, node } = await aControlPlane()
  const host = await node({ manual: true })
  const { answer } = holdAssign()
  const made = tenant.createContainer(aCall(), aCreate({ name: "web" }))
  await expect.poll(() => host.assignments.size).toBe(1)
  const stopped = tenant.act(aCall(), "web", { kind: "stop", timeout_seconds: 7 })
  answer()
  expect((await made).status).toBe(201)
  expect((await stopped).body).toMatchObject({ status: "stopping", run: { state: "placed" } })
  const [run] = host.assignments.keys()
  await expect.poll(() => run && host.assignments.get(run)).toMatchObject({ desired: "stopped", stop_timeout_seconds: 7 })
})

it("a transaction that fails leaves nothing behind in memory either", async () => {
  const { tenantStub } = await aControlPlane()
  const group = aGroup()
  await runInDurableObject(tenantStub, (_, state) => {
    const store = new TenantStore(openDatabase(state.storage))
    const half = () => {
      store.saveGroup(null, group)
      expect(store.group(group.container.id)).toBeDefined()
      throw new Error("half done")
    }
    expect(() => store.transaction(half)).toThrow("half done")
    expect(store.group(group.container.id)).toBeUndefined()
    expect(store.run(group.run.id)).toBeUndefined()
  })
})
