/** Devices and disk space: what the cell gives to whom, keeps for whom, and takes back. */
import { evictDurableObject } from "cloudflare:test"
import { describe, expect, it } from "vitest"
import type { Device } from "../../schema/node.ts"
import { aCall, aControlPlane, peers, stubs } from "../support/control-plane.ts"
import { aCreate, anExit, anObservation, GIB, someFacts } from "../support/factories.ts"

const GPU = "nvidia.com/gpu"
const running = { status: "running", run: null, timeout_ms: 5_000 } as const
const aGpu = (name: string, changes: Partial<Device> = {}): Device => ({
  name: `${GPU}=${name}`,
  healthy: true,
  reason: null,
  parent: null,
  ...changes,
})
const withGpu = (count = 1) => aCreate({ resources: { accelerators: [{ kind: GPU, count }] } })
const reservedOn = async ({ cell }: Awaited<ReturnType<typeof aControlPlane>>) =>
  (await cell.listNodes()).map((node) => node.reserved)

describe("a device", () => {
  it("is named in the assignment, in what the tenant reads, and in what operators see as reserved", async () => {
    const plane = await aControlPlane()
    const host = await plane.node({ facts: { devices: [aGpu("0"), aGpu("1")] } })
    const { body } = await plane.tenant.createContainer(aCall(), withGpu())
    const { container } = await plane.tenant.wait(body.id, running)
    expect(container.run?.accelerators).toEqual([`${GPU}=0`])
    expect([...host.assignments.values()][0]?.devices).toEqual([`${GPU}=0`])
    expect((await reservedOn(plane))[0]?.devices).toEqual([`${GPU}=0`])
  })

  it("goes to the next in line when its run has ended, and never to two at once", async () => {
    const plane = await aControlPlane()
    await plane.node({ facts: { devices: [aGpu("0")] } })
    const first = await plane.tenant.createContainer(aCall(), withGpu())
    await plane.tenant.wait(first.body.id, running)
    const second = await plane.tenant.createContainer(aCall(), withGpu())
    expect(second.body.reason?.message).toContain("1 node: has too few nvidia.com/gpu free")
    await plane.tenant.act(aCall(), first.body.id, { kind: "remove", force: true })
    const { container } = await plane.tenant.wait(second.body.id, running)
    expect(container.run?.accelerators).toEqual([`${GPU}=0`])
    expect((await reservedOn(plane))[0]?.devices).toEqual([`${GPU}=0`])
  })

  it("stays the same run's through a loss of the cell's memory", async () => {
    const plane = await aControlPlane()
    await plane.node({ facts: { devices: [aGpu("0"), aGpu("1")] } })
    const first = await plane.tenant.createContainer(aCall(), withGpu())
    await plane.tenant.wait(first.body.id, running)
    await evictDurableObject(plane.cellStub)
    const second = await plane.tenant.createContainer(aCall(), withGpu())
    expect((await plane.tenant.wait(second.body.id, running)).container.run?.accelerators).toEqual([`${GPU}=1`])
    expect((await reservedOn(plane))[0]).toMatchObject({ runs: 2, disk_bytes: 2 * GIB, devices: [`${GPU}=0`, `${GPU}=1`] })
  })

  it("that fails or goes while in use stays its run's until that has ended, and goes to nobody after", async () => {
    const plane = await aControlPlane()
    const host = await plane.node({ manual: true, facts: { devices: [aGpu("0"), aGpu("1")] } })
    const { body } = await plane.tenant.createContainer(aCall(), withGpu(2))
    const run = body.run?.id
    if (!run) throw new Error("no run")
    await host.assigned(run)
    host.send({ type: "facts", facts: someFacts({ devices: [aGpu("0", { healthy: false, reason: "does not answer" })] }) })
    await host.acknowledged(host.report([anObservation(run)]))
    expect((await reservedOn(plane))[0]?.devices).toEqual([`${GPU}=0`, `${GPU}=1`])
    await host.acknowledged(host.report([anObservation(run, { state: "failed", revision: 2, exit: anExit({ by: "host" }) })]))
    await expect.poll(async () => (await reservedOn(plane))[0]?.devices).toEqual([])
    const next = await plane.tenant.createContainer(aCall(), withGpu())
    expect(next.body.reason?.message).toContain("has too few nvidia.com/gpu free")
  })

  it("that comes while somebody waits for it is given at once", async () => {
    const { tenant, node } = await aControlPlane()
    const host = await node()
    const { body } = await tenant.createContainer(aCall(), withGpu())
    expect(body.status).toBe("scheduling")
    host.send({ type: "facts", facts: someFacts({ devices: [aGpu("0")] }) })
    expect((await tenant.wait(body.id, running)).container.run?.accelerators).toEqual([`${GPU}=0`])
  })

  it("that is said to have failed is not given away for the end of its run, which is told after", async () => {
    const plane = await aControlPlane()
    const host = await plane.node({ manual: true, facts: { devices: [aGpu("0")] } })
    const { body } = await plane.tenant.createContainer(aCall(), withGpu())
    const waiting = await plane.tenant.createContainer(aCall(), withGpu())
    const run = body.run?.id
    if (!run) throw new Error("no run")
    await host.assigned(run)
    host.send({ type: "facts", facts: someFacts({ devices: [aGpu("0", { healthy: false, reason: "is being scrubbed" })] }) })
    host.report([anObservation(run, { state: "failed", revision: 2, exit: anExit({ by: "host" }) })])
    await expect.poll(async () => (await reservedOn(plane))[0]?.devices).toEqual([])
    expect((await plane.tenant.getContainer(waiting.body.id)).status).toBe("scheduling")
    host.send({ type: "facts", facts: someFacts({ devices: [aGpu("0")] }) })
    await expect.poll(async () => (await plane.tenant.getContainer(waiting.body.id)).run?.state).toBe("placed")
  })
})

describe("facts", () => {
  it("that change are what operators read, and outlive the session's memory", async () => {
    const { node, cell } = await aControlPlane()
    const host = await node()
    const object = stubs.node(host.nodeId)
    host.send({ type: "facts", facts: someFacts({ max_open_files: 64, devices: [aGpu("7")] }) })
    await host.acknowledged(host.report([]))
    await evictDurableObject(object)
    expect((await peers.node(host.nodeId).status()).facts).toMatchObject({ max_open_files: 64, devices: [{ name: `${GPU}=7` }] })
    expect((await cell.listNodes())[0]?.ready).toBe(true)
  })
})

describe("disk space", () => {
  it("is reserved as memory is", async () => {
    const { tenant, node, cell } = await aControlPlane()
    await node({ facts: { capacity: { ...someFacts().capacity, disk_bytes: 3 * GIB } } })
    const first = await tenant.createContainer(aCall(), aCreate({ resources: { disk_bytes: 2 * GIB } }))
    expect((await cell.listNodes())[0]?.reserved.disk_bytes).toBe(2 * GIB)
    const second = await tenant.createContainer(aCall(), aCreate({ resources: { disk_bytes: 2 * GIB } }))
    expect(second.body.reason?.message).toContain("1 node: has too little disk space free")
    await tenant.act(aCall(), first.body.id, { kind: "remove", force: true })
    expect((await tenant.wait(second.body.id, running)).reached).toBe(true)
  })
})
