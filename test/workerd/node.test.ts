import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import type { LogOptions } from "../../schema/protocol.ts"
import { CLOSE, LEASE_SECONDS, PROTOCOL_VERSION, STREAM_CREDIT_BYTES, SUBPROTOCOL } from "../../schema/protocol.ts"
import { aCall, aControlPlane, peers, refusal, stubs } from "../support/control-plane.ts"
import { aCreate, anExit, anId, anObservation } from "../support/factories.ts"
import { waitFor } from "../support/wait-for.ts"
import type { FakeNode } from "../support/fake-node.ts"

const LOGS: LogOptions = { follow: true, since_ms: null, tail: null, streams: ["stdout", "stderr"], after: null }
const running = { status: "running", run: null, timeout_ms: 5_000 } as const

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

async function aRunningContainer(create: Parameters<typeof aCreate>[0] = {}) {
  const plane = await aControlPlane()
  const host = await plane.node()
  const { body } = await plane.tenant.createContainer(aCall(), aCreate(create))
  const { container } = await plane.tenant.wait(body.id, running)
  if (!container.run || container.status !== "running") throw new Error(`not running but ${container.status}`)
  return {
    ...plane,
    host,
    id: body.id,
    run: container.run.id,
    nodeObject: peers.node(host.nodeId),
    nodeStub: stubs.node(host.nodeId),
  }
}

/** The lease's alarm at its time, after a silence that is longer than the lease. */
async function passLease(nodeStub: DurableObjectStub, lateMs = 0) {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + LEASE_SECONDS * 1000 + lateMs })
  await runDurableObjectAlarm(nodeStub)
}

describe("a node's session", () => {
  it("is refused without our subprotocol", async () => {
    const { node } = await aControlPlane()
    await expect(node({ subprotocol: "berth.node.v0" })).rejects.toThrow(`This platform speaks ${SUBPROTOCOL}`)
  })

  it.each([
    ["an unreadable message", "{", CLOSE.protocol_error],
    ["a message of no known type", '{"type":"dance"}', CLOSE.protocol_error],
    ["a report before the hello", '{"type":"report","seq":1,"observations":[],"gone":[],"notices":[]}', CLOSE.protocol_error],
    ["a hello of an older version", JSON.stringify({ type: "hello", protocol: PROTOCOL_VERSION - 1 }), CLOSE.version],
    [
      "a hello of a newer version",
      JSON.stringify({ type: "hello", protocol: PROTOCOL_VERSION + 1, new_field: 1 }),
      CLOSE.version,
    ],
  ])("is closed at %s", async (_what, text, code) => {
    const { node } = await aControlPlane()
    const host = await node({ silent: true })
    host.sendText(text)
    await expect.poll(() => host.closed?.code).toBe(code)
  })

  it("is replaced by a newer one, which gets the complete set", async () => {
    const { node, host, run } = await aRunningContainer()
    const newer = await node({ nodeId: host.nodeId, manual: true })
    await expect.poll(() => host.closed?.code).toBe(CLOSE.replaced)
    expect([...newer.assignments.keys()]).toEqual([run])
  })

  it("that ends leaves the node unready, until it comes back", async () => {
    const { tenant, node, cell, host, id } = await aRunningContainer()
    host.close()
    await expect.poll(async () => (await cell.listNodes())[0]?.ready).toBe(false)
    expect((await tenant.getContainer(id)).status).toBe("running")
    await node({ nodeId: host.nodeId, manual: true })
    expect((await cell.listNodes())[0]?.ready).toBe(true)
  })

  it("may not speak of runs that are not assigned to it", async () => {
    const { tenant, node, id, run } = await aRunningContainer()
    const stranger = await node()
    await stranger.acknowledged(stranger.report([anObservation(run, { state: "failed", revision: 9, exit: anExit() })], [run]))
    expect((await tenant.getContainer(id)).status).toBe("running")
    const told = await tenant.observe(stranger.nodeId, [anObservation(run, { state: "failed", revision: 9 })], [], [])
    expect(told).toEqual({ unknown: [run] })
    expect((await tenant.getContainer(id)).status).toBe("running")
  })

  it("hears of a new run before it is stored, and of no change to one", async () => {
    const { tenant, host, id } = await aRunningContainer()
    const types = () => host.received.map(({ type }) => type).filter((type) => type === "expect" || type === "increment")
    expect(types()).toEqual(["expect", "increment"])
    await tenant.act(aCall(), id, { kind: "stop", timeout_seconds: null })
    await expect.poll(() => types()).toEqual(["expect", "increment", "increment"])
  })

  it("may repeat and reorder its reports", async () => {
    const { tenant, node } = await aControlPlane()
    const host = await node({ manual: true })
    const { body } = await tenant.createContainer(aCall(), aCreate())
    const run = body.run?.id ?? anId("run")
    await host.assigned(run)
    const at = (state: "accepted" | "running" | "completed", revision: number) =>
      host.report([anObservation(run, { state, revision, exit: state === "completed" ? anExit() : null })])
    at("running", 2)
    at("accepted", 1)
    at("completed", 3)
    at("running", 4)
    await host.acknowledged(at("completed", 3))
    expect((await tenant.getContainer(body.id)).run?.state).toBe("completed")
    const { items } = await tenant.listEvents({
      after: null,
      types: ["container.exited", "container.running"],
      container: body.id,
      limit: 9,
    })
    expect(items.map((event) => event.type)).toEqual(["container.running", "container.exited"])
  })
})

describe("a node's lease", () => {
  it("orphans its runs when it lapses, and makes a node that comes back destroy them", async () => {
    const { tenant, node, host, id, run, nodeStub } = await aRunningContainer()
    host.close()
    await passLease(nodeStub)
    const lost = await tenant.wait(id, { status: "lost", run: null, timeout_ms: 5_000 })
    expect(lost.container).toMatchObject({ status: "lost", reason: { code: "node_lost" }, run: { state: "orphaned" } })
    const back = await node({ nodeId: host.nodeId })
    expect(back.assignments.get(run)?.desired ?? "gone").toMatch(/removed|gone/)
    await expect.poll(() => back.assignments.size).toBe(0)
    expect((await tenant.getContainer(id)).run?.state).toBe("orphaned")
  })

  it("lets the restart policy put a new run in an orphan's place", async () => {
    const { tenant, node, host, id, nodeStub } = await aRunningContainer({ restart: { policy: "always" } })
    host.close()
    await node()
    await passLease(nodeStub)
    await expect.poll(async () => (await tenant.getContainer(id)).run).toMatchObject({ attempt: 2, state: "running" })
  })

  it("gets a full term more when the alarm itself came late: the platform was down, not the node", async () => {
    const { tenant, host, id, nodeStub } = await aRunningContainer()
    host.close()
    await passLease(nodeStub, 10 * 60_000)
    expect((await tenant.getContainer(id)).status).toBe("running")
    vi.setSystemTime(Date.now() + LEASE_SECONDS * 1000)
    await runDurableObjectAlarm(nodeStub)
    expect((await tenant.wait(id, { status: "lost", run: null, timeout_ms: 5_000 })).reached).toBe(true)
  })

  it("gets a full term more when the platform went down with the socket", async () => {
    const { tenant, id, nodeObject, nodeStub } = await aRunningContainer()
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + LEASE_SECONDS * 1000 - 100 })
    await evictDurableObject(nodeStub, { webSockets: "close" })
    expect((await nodeObject.status()).connected).toBe(false)
    vi.setSystemTime(Date.now() + 1_000)
    await runDurableObjectAlarm(nodeStub)
    expect((await tenant.getContainer(id)).status).toBe("running")
  })

  it("is not needed by a node without live runs", async () => {
    const { node } = await aControlPlane()
    const host = await node()
    expect(await runDurableObjectAlarm(stubs.node(host.nodeId))).toBe(false)
  })
})

describe("removal from a node that is away", () => {
  it("is accepted, and enforced when the node comes back", async () => {
    const { tenant, node, host, id, run } = await aRunningContainer()
    host.close()
    const removed = await tenant.act(aCall(), id, { kind: "remove", force: true })
    expect(removed.body.status).toBe("stopping")
    const back = await node({ nodeId: host.nodeId })
    expect((await tenant.wait(id, { status: "removed", run: null, timeout_ms: 5_000 })).reached).toBe(true)
    await expect.poll(() => back.assignments.has(run)).toBe(false)
  })

  it("is final when the operator forgets the node", async () => {
    const { tenant, cell, host, id, nodeObject } = await aRunningContainer()
    await nodeObject.forget()
    await expect.poll(() => host.closed?.code).toBe(CLOSE.forgotten)
    expect(await tenant.getContainer(id)).toMatchObject({ status: "lost", reason: { code: "node_forgotten" } })
    expect(await cell.listNodes()).toEqual([])
  })
})

const streamOf = async (host: FakeNode) => {
  await expect.poll(() => host.received.some((message) => message.type === "stream_open")).toBe(true)
  const opened = host.received.findLast((message) => message.type === "stream_open")
  if (opened?.type !== "stream_open") throw new Error("no stream")
  return opened
}
const credited = (host: FakeNode) => host.received.reduce((sum, m) => sum + (m.type === "stream_credit" ? m.bytes : 0), 0)

describe("commands and logs", () => {
  it("answer node_unreachable when the node is away", async () => {
    const { host, nodeObject, run } = await aRunningContainer()
    host.close()
    await expect.poll(async () => (await nodeObject.status()).connected).toBe(false)
    expect((await refusal(() => nodeObject.command(run, { kind: "isolation" }))).code).toBe("node_unreachable")
    expect((await refusal(() => nodeObject.openLogs([run], LOGS))).code).toBe("node_unreachable")
  })

  it("fail at once when the connection is lost in between", async () => {
    const { host, nodeObject, run } = await aRunningContainer()
    const asking = refusal(() => nodeObject.command(run, { kind: "isolation" }))
    await expect.poll(() => host.received.some((message) => message.type === "command")).toBe(true)
    host.close()
    expect((await asking).code).toBe("node_unreachable")
  })

  it("refuse runs that the node does not keep", async () => {
    const { nodeObject } = await aRunningContainer()
    expect((await refusal(() => nodeObject.openLogs([anId("run")], LOGS))).code).toBe("not_found")
  })

  it("give credit back as the reader takes bytes, and none before", async () => {
    const { host, nodeObject, run } = await aRunningContainer()
    const reader = (await nodeObject.openLogs([run], LOGS)).getReader()
    const { stream, run_ids, credit_bytes } = await streamOf(host)
    expect({ run_ids, credit_bytes }).toEqual({ run_ids: [run], credit_bytes: STREAM_CREDIT_BYTES })
    const frame = new Uint8Array(64 * 1024).fill(120)
    let sent = 0
    for (; sent < STREAM_CREDIT_BYTES; sent += frame.length) host.sendBytes(stream, frame)
    let read = 0
    while (read < sent) read += (await reader.read()).value?.length ?? 0
    await expect.poll(() => credited(host)).toBeGreaterThanOrEqual(STREAM_CREDIT_BYTES / 2)
    host.sendBytes(stream, new TextEncoder().encode("end\n"))
    host.send({ type: "stream_end", stream, error: null })
    const rest = await reader.read()
    expect(new TextDecoder().decode(rest.value)).toBe("end\n")
    expect((await reader.read()).done).toBe(true)
  })

  it("give no credit for bytes that nobody takes", async () => {
    const { host, nodeObject, run } = await aRunningContainer()
    const logs = await nodeObject.openLogs([run], LOGS)
    const { stream } = await streamOf(host)
    const frame = new Uint8Array(64 * 1024)
    let sent = 0
    for (let before = -1; before < sent;) {
      before = sent
      for (; sent + frame.length <= STREAM_CREDIT_BYTES + credited(host); sent += frame.length) host.sendBytes(stream, frame)
      // Whatever credit the frames bring comes before the acknowledgement of a later report.
      await host.acknowledged(host.report([]))
    }
    expect(sent).toBeLessThanOrEqual(2 * STREAM_CREDIT_BYTES)
    await logs.cancel()
  })

  it("end the session of a node that sends more than it has credit for", async () => {
    const { host, nodeObject, run } = await aRunningContainer()
    const logs = await nodeObject.openLogs([run], LOGS)
    const { stream } = await streamOf(host)
    for (let sent = 0; sent <= STREAM_CREDIT_BYTES * 2; sent += 64 * 1024) host.sendBytes(stream, new Uint8Array(64 * 1024))
    await expect.poll(() => host.closed?.code).toBe(CLOSE.protocol_error)
    await logs.cancel().catch(() => {})
  })

  it("tell the node when the reader leaves", async () => {
    const { host, nodeObject, run } = await aRunningContainer()
    const logs = await nodeObject.openLogs([run], LOGS)
    const { stream } = await streamOf(host)
    await logs.cancel()
    // A reader that left is noticed by writing to it.
    await waitFor("the stream's close", () => {
      host.sendBytes(stream, new TextEncoder().encode("into the void\n"))
      return host.received.some((message) => message.type === "stream_close")
    })
  })
})
