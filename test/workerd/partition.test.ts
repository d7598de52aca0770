/**
 * A node that is cut off and comes back, through the real objects: what it may keep, what it must destroy, and who hears of it; with
 * objects evicted and tellings that fail in between.
 */
import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { TenantObject } from "../../durable/tenant/object.ts"
import { CLOSE, LEASE_SECONDS, PROTOCOL_VERSION, SUBPROTOCOL } from "../../schema/protocol.ts"
import type { NodeMessage } from "../../schema/protocol.ts"
import { aCall, aControlPlane, peers, stubs } from "../support/control-plane.ts"
import { aCreate, anExit, anId, anObservation, someFacts } from "../support/factories.ts"

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

async function aNode(manual = false) {
  const plane = await aControlPlane()
  const host = await plane.node({ manual })
  const nodeStub = stubs.node(host.nodeId)
  const running = async (changes: Parameters<typeof aCreate>[0] = {}) => {
    const { body } = await plane.tenant.createContainer(aCall(), aCreate(changes))
    const { container } = await plane.tenant.wait(body.id, { status: "running", run: null, timeout_ms: 5_000 })
    if (!container.run || container.status !== "running") throw new Error(`not running but ${container.status}`)
    return { id: container.id, run: container.run.id }
  }
  const eventsOf = async (id: string) =>
    (await plane.tenant.listEvents({ after: null, types: [], container: id, limit: 100 })).items.map(({ type }) => type)
  /** The lease's alarm at its time, after a silence that is longer than the lease. */
  const passLease = async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + LEASE_SECONDS * 1000 })
    await runDurableObjectAlarm(nodeStub)
  }
  const back = (options: { manual?: boolean } = {}) => plane.node({ nodeId: host.nodeId, ...options })
  return { ...plane, host, object: peers.node(host.nodeId), nodeStub, running, eventsOf, passLease, back }
}

describe("a run that is kept while its node is cut off", () => {
  it("is never given up; its tenant hears that it is out of sight, and that it is back", async () => {
    const { tenant, host, running, eventsOf, passLease, back } = await aNode()
    const kept = await running({ on_partition: "keep", restart: { policy: "always" } })
    const stopped = await running()
    host.close()
    await passLease()
    await expect.poll(() => eventsOf(kept.id)).toContain("container.unreachable")
    expect((await tenant.getContainer(stopped.id)).run?.state).toBe("orphaned")
    expect(await tenant.getContainer(kept.id)).toMatchObject({ run: { id: kept.run, state: "running", attempt: 1 } })
    const again = await back({ manual: true })
    expect(again.assignments.get(kept.run)?.desired).toBe("running")
    expect(again.assignments.get(stopped.run)?.desired).toBe("removed")
    await expect.poll(() => eventsOf(kept.id)).toContain("container.reachable")
  })

  it("is under a lease again once its node is back", async () => {
    const { host, running, eventsOf, passLease, back } = await aNode()
    const { id } = await running({ on_partition: "keep" })
    host.close()
    await passLease()
    const again = await back({ manual: true })
    await expect.poll(() => eventsOf(id)).toContain("container.reachable")
    again.close()
    await passLease()
    const unreachable = async () => (await eventsOf(id)).filter((type) => type === "container.unreachable")
    await expect.poll(unreachable).toHaveLength(2)
  })

  it("has its tenant told later, though the object was evicted meanwhile", async () => {
    const { host, running, eventsOf, passLease, nodeStub } = await aNode()
    const { id } = await running({ on_partition: "keep" })
    host.close()
    vi.spyOn(TenantObject.prototype, "cutOff").mockRejectedValueOnce(new Error("busy"))
    await passLease()
    expect(await eventsOf(id)).not.toContain("container.unreachable")
    await evictDurableObject(nodeStub)
    await runDurableObjectAlarm(nodeStub)
    expect(await eventsOf(id)).toContain("container.unreachable")
  })

  it("is told as back and not as away, when its node came back before anybody heard", async () => {
    const { host, running, eventsOf, passLease, back } = await aNode()
    const { id } = await running({ on_partition: "keep" })
    host.close()
    vi.spyOn(TenantObject.prototype, "cutOff").mockRejectedValueOnce(new Error("busy"))
    await passLease()
    await back({ manual: true })
    const events = await eventsOf(id)
    expect(events.filter((type) => type.endsWith("reachable"))).toEqual([])
  })
})

describe("a run that was given up", () => {
  it("holds up no other tenant's news when its own does not answer", async () => {
    const { host, cellId, running, passLease, tenant } = await aNode()
    const other = await aControlPlane({ cells: [cellId] })
    const { id } = await running()
    const { body } = await other.tenant.createContainer(aCall(), aCreate())
    await other.tenant.wait(body.id, { status: "running", run: null, timeout_ms: 5_000 })
    host.close()
    vi.spyOn(TenantObject.prototype, "orphan").mockRejectedValueOnce(new Error("busy"))
    await passLease()
    const states = [(await tenant.getContainer(id)).run?.state, (await other.tenant.getContainer(body.id)).run?.state]
    expect(states.toSorted()).toEqual(["orphaned", "running"])
  })

  it("is destroyed by its node once that is back, and nothing that it says counts", async () => {
    const { tenant, host, running, passLease, back, nodeStub } = await aNode()
    const { id, run } = await running({ restart: { policy: "always" } })
    host.close()
    await passLease()
    await evictDurableObject(nodeStub)
    const again = await back({ manual: true })
    expect(again.assignments.get(run)?.desired).toBe("removed")
    const late = [
      anObservation(run, { state: "running", revision: 99 }),
      anObservation(run, { state: "completed", exit: anExit() }),
    ]
    await again.acknowledged(again.report(late))
    const { run: now } = await tenant.getContainer(id)
    expect(now?.id).not.toBe(run)
    await again.acknowledged(again.report([], [run]))
    expect(again.assignments.has(run)).toBe(false)
  })

  it.each(["running", "stopped"] as const)("is not revived by a late wish that it be %s", async (desired) => {
    const { object, host, running, passLease, back } = await aNode()
    const { run } = await running()
    const body = host.assignments.get(run)
    if (!body) throw new Error("no assignment")
    host.close()
    await passLease()
    await object.assign([{ ...body, desired }])
    expect((await back({ manual: true })).assignments.get(run)?.desired).toBe("removed")
  })
})

describe("a removal while the node is away", () => {
  it("waits as a tombstone through every eviction, and is enforced", async () => {
    const { tenant, host, running, back, nodeStub, tenantStub, cellStub } = await aNode()
    const { id, run } = await running({ on_partition: "keep" })
    host.close()
    await tenant.act(aCall(), id, { kind: "remove", force: true })
    for (const stub of [nodeStub, tenantStub, cellStub]) await evictDurableObject(stub)
    const again = await back({ manual: true })
    expect(again.assignments.get(run)?.desired).toBe("removed")
    await again.acknowledged(again.report([anObservation(run, { state: "stopped", revision: 9, exit: anExit() })], [run]))
    expect((await tenant.wait(id, { status: "removed", run: null, timeout_ms: 5_000 })).reached).toBe(true)
  })
})

const hello = (protocol: number, more: object = {}) => ({
  type: "hello",
  protocol,
  bridge_version: "0.1.0",
  facts: someFacts(),
  condition: { accepting: true, reason: null, conditions: [] },
  ...more,
})

describe("a bridge of another version", () => {
  it.each([
    ["an older subprotocol", `berth.node.v${PROTOCOL_VERSION - 1}`],
    ["a newer subprotocol", `berth.node.v${PROTOCOL_VERSION + 1}`],
    ["none of ours", "chat"],
  ])("is told which one is spoken when it offers %s", async (_, subprotocol) => {
    const { node } = await aControlPlane()
    await expect(node({ subprotocol })).rejects.toThrow(`This platform speaks ${SUBPROTOCOL}.`)
  })

  it("is let in when ours is among those that it offers", async () => {
    const { node } = await aControlPlane()
    const host = await node({ subprotocol: `berth.node.v${PROTOCOL_VERSION + 1}, ${SUBPROTOCOL}` })
    expect(host.version).toBe(0)
  })

  it.each([
    ["an older hello", hello(PROTOCOL_VERSION - 1, { condition: { accepting: true, reason: null } }), CLOSE.version],
    ["a newer hello", hello(PROTOCOL_VERSION + 1, { new_field: 1 }), CLOSE.version],
    ["our hello with a field too many", hello(PROTOCOL_VERSION, { new_field: 1 }), CLOSE.protocol_error],
    ["our hello as the version before had it", hello(PROTOCOL_VERSION, { condition: { accepting: true, reason: null } }), CLOSE.protocol_error],
  ])("is sent away with a code for %s", async (_, message, code) => {
    const { node } = await aControlPlane()
    const host = await node({ silent: true })
    host.sendText(JSON.stringify(message))
    await expect.poll(() => host.closed?.code).toBe(code)
    if (code === CLOSE.version) expect(host.closed?.reason).toBe(`this platform speaks version ${PROTOCOL_VERSION}`)
  }) // prettier-ignore

  it("leaves the runs of the session before as they are", async () => {
    const { tenant, running, back, host } = await aNode()
    const { id } = await running()
    host.close()
    await expect(back({ manual: true }).then((next) => next.hello({ protocol: PROTOCOL_VERSION + 1 }))).resolves.toBeUndefined()
    expect((await tenant.getContainer(id)).status).toBe("running")
  })
})

describe("each message of a session, out of turn", () => {
  const condition = { accepting: true, reason: null, conditions: [] }
  const messages: [NodeMessage["type"], () => object][] = [
    ["hello", () => hello(PROTOCOL_VERSION)],
    ["report", () => ({ type: "report", seq: 1, observations: [anObservation(anId("run"))], gone: [anId("run")], notices: [] })],
    ["facts", () => ({ type: "facts", facts: someFacts() })],
    ["condition", () => ({ type: "condition", condition })],
    ["command_result", () => ({ type: "command_result", id: 1, error: null, data: null })],
    ["stream_end", () => ({ type: "stream_end", stream: 1, error: null })],
  ]

  it.each(messages.filter(([type]) => type !== "hello"))("%s before the hello ends it", async (_, message) => {
    const { node } = await aControlPlane()
    const host = await node({ silent: true })
    host.sendText(JSON.stringify(message()))
    await expect.poll(() => host.closed?.code).toBe(CLOSE.protocol_error)
  })

  it.each(messages)("%s said three times changes nothing that runs", async (type, message) => {
    const { tenant, host, running } = await aNode()
    const { id, run } = await running()
    const before = await tenant.getContainer(id)
    for (let i = 0; i < 3; i++) host.sendText(JSON.stringify(message()))
    if (type === "hello") return expect.poll(() => host.closed?.code).toBe(CLOSE.protocol_error)
    await host.acknowledged(host.report([anObservation(run, { state: "accepted", revision: 1 })]))
    expect(await tenant.getContainer(id)).toEqual(before)
    expect(host.closed).toBeNull()
  })
})
