/** Changing a container's network while it runs, and when it cannot be. */
import { evictDurableObject } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { CellObject } from "../../durable/cell/object.ts"
import { NodeObject } from "../../durable/node/object.ts"
import type { ContainerUpdate } from "../../schema/container.ts"
import { FEATURES } from "../../schema/features.ts"
import { aCall, aControlPlane, peers, refusal } from "../support/control-plane.ts"
import { aCreate, someFacts } from "../support/factories.ts"
import type { FakeNodeOptions } from "../support/fake-node.ts"

type NetworkChange = NonNullable<ContainerUpdate["network"]>
const running = { status: "running", run: null, timeout_ms: 5_000 } as const

afterEach(() => {
  vi.restoreAllMocks()
})

async function aRunningContainer(create: Parameters<typeof aCreate>[0] = {}, options: Partial<FakeNodeOptions> = {}) {
  const plane = await aControlPlane()
  const host = await plane.node(options)
  const { body } = await plane.tenant.createContainer(aCall(), aCreate(create))
  const { container } = await plane.tenant.wait(body.id, running)
  if (!container.run || container.status !== "running") throw new Error(`not running but ${container.status}`)
  const { id: run } = container.run
  const update = (network: NetworkChange, call = aCall()) => plane.tenant.updateContainer(call, body.id, { network })
  const networkThere = () => host.assignments.get(run)?.spec.network
  return { ...plane, host, id: body.id, run, update, networkThere }
}

describe("a change of a live container's network", () => {
  it("goes to the node for the same run, changes what is left out in nothing, and is told as an event", async () => {
    const { tenant, id, run, update, networkThere, host } = await aRunningContainer({
      network: { egress: "open", ingress_bytes_per_second: 5_000 },
    })
    const before = host.assignments.get(run)
    const { body } = await update({ egress: ["192.0.2.0/24"], egress_bytes_per_second: 9_000 })
    const network = { egress: ["192.0.2.0/24"], egress_bytes_per_second: 9_000, ingress_bytes_per_second: 5_000 }
    expect(body).toMatchObject({ network, status: "running", run: { id: run } })
    await expect.poll(networkThere).toEqual(network)
    const image_digest = body.run?.image_digest
    expect(host.assignments.get(run)).toEqual({ ...before, spec: { ...before?.spec, image_digest, network } })
    const { items } = await tenant.listEvents({ after: null, types: ["container.updated"], container: id, limit: 9 })
    expect(items).toMatchObject([{ run_id: run, data: { network } }])
  })

  it("takes a limit away by null, and is no event when it changes nothing", async () => {
    const { tenant, id, update, networkThere } = await aRunningContainer({ network: { egress_bytes_per_second: 9_000 } })
    await update({ egress_bytes_per_second: null })
    await expect.poll(networkThere).toEqual({ egress: "open" })
    await update({ egress: "open" })
    await tenant.updateContainer(aCall(), id, {})
    const { items } = await tenant.listEvents({ after: null, types: ["container.updated"], container: id, limit: 9 })
    expect(items).toHaveLength(1)
  })

  it("is answered once for each idempotency key", async () => {
    const { update, tenant, id } = await aRunningContainer()
    const call = aCall("k")
    const first = await update({ egress_bytes_per_second: 1_000 }, call)
    await update({ egress_bytes_per_second: 2_000 })
    expect(await update({ egress_bytes_per_second: 1_000 }, call)).toEqual({ ...first, replayed: true })
    expect((await tenant.getContainer(id)).network.egress_bytes_per_second).toBe(2_000)
  })

  it("is not overtaken by an older one that is still on its way", async () => {
    const { update, networkThere } = await aRunningContainer()
    const { assign } = NodeObject.prototype
    const held = Promise.withResolvers<void>()
    vi.spyOn(NodeObject.prototype, "assign").mockImplementationOnce(async function (this: NodeObject, list) {
      await held.promise
      return assign.call(this, list)
    })
    await update({ egress_bytes_per_second: 1_000 })
    await update({ egress_bytes_per_second: 2_000 })
    held.resolve()
    await expect.poll(() => networkThere()?.egress_bytes_per_second).toBe(2_000)
  })

  it("survives the loss of the object that has yet to send it", async () => {
    const { tenantId, tenantStub, update, networkThere } = await aRunningContainer()
    vi.spyOn(NodeObject.prototype, "assign").mockRejectedValueOnce(new Error("the node object is down"))
    await update({ egress_bytes_per_second: 1_000 })
    await evictDurableObject(tenantStub)
    await peers.tenant(tenantId).listContainers({ cursor: null, limit: 1, labels: [], status: null })
    await expect.poll(() => networkThere()?.egress_bytes_per_second, { timeout: 8_000 }).toBe(1_000)
  })

  it("reaches a node that was away when it comes back", async () => {
    const { node, host, run, update } = await aRunningContainer()
    host.close()
    await update({ egress: ["198.51.100.0/24"] })
    const back = await node({ nodeId: host.nodeId, manual: true })
    await expect.poll(() => back.assignments.get(run)?.spec.network.egress).toEqual(["198.51.100.0/24"])
  })

  it("may take the network away and give it again", async () => {
    const { update, networkThere } = await aRunningContainer()
    await update({ egress: "none" })
    await expect.poll(networkThere).toEqual({ egress: "none" })
    await update({ egress: "open" })
    await expect.poll(networkThere).toEqual({ egress: "open" })
  })

  it("is refused where the profile has no network to give", async () => {
    const profiles = [{ name: "sandboxed" as const, runtime: "runsc", features: ["disk_quota" as const] }]
    const create = { profile: "sandboxed" as const, network: { egress: "none" as const } }
    const { update } = await aRunningContainer(create, { facts: { profiles } })
    expect(await refusal(() => update({ egress: "open" }))).toEqual({
      code: "action_not_allowed",
      message: "This container's host cannot give its isolation profile a network. Stop the container, then change it.",
    })
  })

  it("is refused where the host cannot limit bandwidth, but ranges are not", async () => {
    const features = FEATURES.filter((feature) => feature !== "bandwidth")
    const facts = { profiles: someFacts().profiles.map((offer) => ({ ...offer, features })) }
    const { update, networkThere } = await aRunningContainer({}, { facts })
    expect((await refusal(() => update({ ingress_bytes_per_second: 1_000 }))).message).toContain("cannot limit network bandwidth")
    await update({ egress: ["192.0.2.0/24"] })
    await expect.poll(() => networkThere()?.egress).toEqual(["192.0.2.0/24"])
  })
})

describe("a change of a container that does not run", () => {
  it("may be to no egress, and holds for its next run", async () => {
    const { tenant, id, update, host } = await aRunningContainer()
    await tenant.act(aCall(), id, { kind: "stop", timeout_seconds: 0 })
    await tenant.wait(id, { ...running, status: "exited" })
    await update({ egress: "none" })
    const { body } = await tenant.act(aCall(), id, { kind: "start" })
    const next = body.run?.id
    if (!next) throw new Error("no run")
    expect((await host.assigned(next)).spec.network).toEqual({ egress: "none" })
  })

  it("is refused once it is removed", async () => {
    const { tenant } = await aControlPlane()
    const { body } = await tenant.createContainer(aCall(), aCreate({ start: false }))
    await tenant.act(aCall(), body.id, { kind: "remove", force: false })
    const { code } = await refusal(() => tenant.updateContainer(aCall(), body.id, { network: { egress: "none" } }))
    expect(code).toBe("action_not_allowed")
  })

  it("that a node was chosen for without it has another node chosen, when that one cannot do it", async () => {
    const { tenant, node } = await aControlPlane()
    const features = FEATURES.filter((feature) => feature !== "bandwidth")
    const facts = { profiles: someFacts().profiles.map((offer) => ({ ...offer, features })) }
    await node({ facts })
    const { place } = CellObject.prototype
    const held = Promise.withResolvers<void>()
    vi.spyOn(CellObject.prototype, "place").mockImplementationOnce(async function (this: CellObject, cell, asks) {
      await held.promise
      return place.call(this, cell, asks)
    })
    const creating = tenant.createContainer(aCall(), aCreate({ name: "web" }))
    await expect
      .poll(async () => (await tenant.listContainers({ cursor: null, limit: 1, labels: [], status: null })).items.length)
      .toBe(1)
    await tenant.updateContainer(aCall(), "web", { network: { egress_bytes_per_second: 1_000 } })
    held.resolve()
    await creating
    await expect.poll(async () => (await tenant.getContainer("web")).reason?.message).toContain("cannot limit network bandwidth")
    const able = await node()
    await tenant.wait("web", running)
    expect([...able.assignments.values()][0]?.spec.network.egress_bytes_per_second).toBe(1_000)
  })
})
