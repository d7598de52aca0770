/**
 * A host whose root was taken over, or whose key was stolen: what it may say with that, message by message. It can lie about
 * its own runs and nothing else: another node's runs, devices, streams and sessions, and other tenants, feel nothing of it.
 */
import { env } from "cloudflare:workers"
import { afterEach, describe, expect, it, vi } from "vitest"
import { CELL_ID_HEADER, NODE_ASSERTION_HEADER, NODE_ID_HEADER, NODE_LABELS_HEADER } from "../../durable/shared/rpc.ts"
import { TenantObject } from "../../durable/tenant/object.ts"
import { PlacementWish } from "../../schema/container.ts"
import type { RunId } from "../../schema/ids.ts"
import {
  CLOSE,
  type LogOptions,
  MAX_STREAM_CHUNK_BYTES,
  type NodeMessage,
  STREAM_CREDIT_BYTES,
  SUBPROTOCOL,
} from "../../schema/protocol.ts"
import { aCall, aControlPlane, peers, refusal, stubs } from "../support/control-plane.ts"
import { FakeNode } from "../support/fake-node.ts"
import { aCreate, anExit, anId, anObservation, GIB, someFacts } from "../support/factories.ts"

const LOGS: LogOptions = { follow: true, since_ms: null, tail: null, streams: ["stdout", "stderr"], after: null }
const running = { status: "running", run: null, timeout_ms: 5_000 } as const

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const aGpu = (name: string) => ({ name: `nvidia.com/gpu=${name}`, healthy: true, reason: null, parent: null })

/** A victim with a running container and a device, and a thief on another node of the same cell, which runs nothing. */
async function aThief() {
  const plane = await aControlPlane()
  const victim = await plane.node({ facts: { devices: [aGpu("0")], labels: { region: "eu-1" } } })
  const create = aCreate({ resources: { accelerators: [{ kind: "nvidia.com/gpu" }] } })
  const { body } = await plane.tenant.createContainer(aCall(), create)
  const { container } = await plane.tenant.wait(body.id, running)
  if (!container.run) throw new Error("no run")
  const thief = await plane.node({ manual: true })
  const eventsBefore = await plane.tenant.listEvents({ after: null, types: [], container: null, limit: 1000 })
  const nothingHappened = async () => {
    expect(await plane.tenant.getContainer(body.id)).toEqual(container)
    expect(await plane.tenant.listEvents({ after: null, types: [], container: null, limit: 1000 })).toEqual(eventsBefore)
    expect(victim.closed).toBeNull()
    expect((await plane.cell.listNodes()).find((node) => node.node_id === victim.nodeId)).toMatchObject({
      ready: true,
      reserved: { runs: 1, devices: ["nvidia.com/gpu=0"] },
    })
    expect([...victim.assignments.keys()]).toEqual([container.run?.id])
  }
  /** A run of the thief's own: the victim takes no more. */
  const ownRun = async () => {
    victim.send({ type: "condition", condition: { accepting: false, reason: null, conditions: [] } })
    await victim.acknowledged(victim.report([]))
    const { body: made } = await plane.tenant.createContainer(aCall(), aCreate())
    const own = made.run?.id
    if (!own) throw new Error("no run")
    await thief.assigned(own)
    return { body: made, own }
  }
  return { ...plane, victim, thief, ownRun, id: body.id, run: container.run.id, nothingHappened }
}

const aNotice = (run_id: RunId) => ({
  id: crypto.randomUUID(),
  run_id,
  kind: "isolation_deviated" as const,
  at_ms: Date.now(),
  reason: { code: "forged", message: "forged" },
})

describe("hello", () => {
  it("said twice ends the session", async () => {
    const { thief, nothingHappened } = await aThief()
    thief.hello()
    await expect.poll(() => thief.closed?.code).toBe(CLOSE.protocol_error)
    await nothingHappened()
  })

  it("that claims the operator's labels keeps the operator's", async () => {
    const { cellId, cell } = await aControlPlane()
    const node_id = anId("nod")
    const headers = {
      upgrade: "websocket",
      "sec-websocket-protocol": SUBPROTOCOL,
      [NODE_ID_HEADER]: node_id,
      [CELL_ID_HEADER]: cellId,
      [NODE_LABELS_HEADER]: '{"region":"cheap"}',
      [NODE_ASSERTION_HEADER]: `a ${Date.now() + 60_000}`,
    }
    const dial = () => stubs.node(node_id).fetch("https://node.test/", { headers })
    const claims = { facts: { labels: { region: "expensive", own: "1" } } }
    const node = await FakeNode.connect({ namespace: env.NODE, cellId, nodeId: node_id, dial, ...claims })
    node.send({ type: "facts", facts: someFacts(claims.facts) })
    await node.acknowledged(node.report([]))
    const ask = {
      run_ids: [anId("run")],
      tenant_id: anId("ten"),
      image: "app:1",
      resources: aCreate().resources,
      profile: "hardened" as const,
      features: [],
      refuse_vulnerable: false,
    }
    const [wrong] = await cell.place(cellId, [{ ...ask, placement: PlacementWish.parse({ labels: { region: "expensive" } }) }])
    expect(wrong?.node_id).toBeNull()
    const [right] = await cell.place(cellId, [
      { ...ask, placement: PlacementWish.parse({ labels: { region: "cheap", own: "1" } }) },
    ])
    expect(right?.node_id).toBe(node_id)
  })
})

describe("a report", () => {
  it("of another node's run, that it failed, is gone, or deviates, is acknowledged and changes nothing", async () => {
    const { thief, run, nothingHappened } = await aThief()
    const failed = anObservation(run, { state: "failed", revision: 99, exit: anExit({ code: 1 }) })
    await thief.acknowledged(thief.report([failed], [run], [aNotice(run)]))
    await nothingHappened()
  })

  it("of a run that does not exist changes nothing", async () => {
    const { thief, nothingHappened } = await aThief()
    const made = anId("run")
    await thief.acknowledged(thief.report([anObservation(made)], [made], [aNotice(made)]))
    await nothingHappened()
  })

  it("that went past the NodeObject is refused by the tenant's object as well", async () => {
    const { tenant, thief, run, nothingHappened } = await aThief()
    const failed = anObservation(run, { state: "failed", revision: 99 })
    expect(await tenant.observe(thief.nodeId, [failed], [run], [aNotice(run)])).toEqual({ unknown: [run] })
    await tenant.orphan(thief.nodeId, [run], { code: "forged", message: "forged" })
    await nothingHappened()
  })

  it("of its own run moves that run alone", async () => {
    const { tenant, thief, id, ownRun } = await aThief()
    const { body, own } = await ownRun()
    await thief.acknowledged(thief.report([anObservation(own, { state: "completed", exit: anExit() })]))
    expect((await tenant.getContainer(body.id)).status).toBe("exited")
    expect((await tenant.getContainer(id)).status).toBe("running")
  })
})

describe("facts", () => {
  it("that name another node's devices give it none of them", async () => {
    const { tenant, thief, victim, run, nothingHappened } = await aThief()
    thief.send({ type: "facts", facts: someFacts({ hostname: "host-1", devices: [aGpu("0")] }) })
    await thief.acknowledged(thief.report([]))
    await nothingHappened()
    thief.send({ type: "facts", facts: someFacts({ devices: [] }) })
    await thief.acknowledged(thief.report([]))
    await nothingHappened()
    expect(victim.assignments.get(run)?.devices).toEqual(["nvidia.com/gpu=0"])
    const create = aCreate({ resources: { accelerators: [{ kind: "nvidia.com/gpu" }] } })
    expect((await tenant.createContainer(aCall(), create)).body.status).toBe("scheduling")
  })

  it("that cannot be read end the session", async () => {
    const { thief, nothingHappened } = await aThief()
    const facts = { ...someFacts(), capacity: { cpus: -1, memory_bytes: GIB, pids: 1, runs: 1, disk_bytes: 1 } }
    thief.sendText(JSON.stringify({ type: "facts", facts }))
    await expect.poll(() => thief.closed?.code).toBe(CLOSE.protocol_error)
    await nothingHappened()
  })
})

describe("a condition", () => {
  it("speaks for its own node", async () => {
    const { thief, cell, nothingHappened } = await aThief()
    thief.send({ type: "condition", condition: { accepting: false, reason: { code: "x", message: "x" }, conditions: [] } })
    await thief.acknowledged(thief.report([]))
    await nothingHappened()
    expect((await cell.listNodes()).filter((node) => node.ready)).toHaveLength(1)
  })
})

describe("a command's result", () => {
  it("to a command that went to another node answers nobody", async () => {
    const { thief, victim, run, nothingHappened } = await aThief()
    const asking = peers.node(victim.nodeId).command(run, { kind: "isolation" })
    await expect.poll(() => victim.received.some((message) => message.type === "command")).toBe(true)
    const command = victim.received.find((message) => message.type === "command")
    if (command?.type !== "command") throw new Error("no command")
    for (const id of [command.id - 1, command.id, command.id + 1])
      thief.send({ type: "command_result", id, error: null, data: { forged: true } })
    await thief.acknowledged(thief.report([]))
    victim.send({ type: "command_result", id: command.id, error: null, data: { own: true } })
    expect(JSON.parse(await asking)).toEqual({ own: true })
    await nothingHappened()
  })

  it("is not to be had for another node's run: neither it nor its logs can be asked of the thief", async () => {
    const { thief, run } = await aThief()
    const object = peers.node(thief.nodeId)
    expect((await refusal(() => object.command(run, { kind: "isolation" }))).code).toBe("not_found")
    expect((await refusal(() => object.openLogs([run], LOGS))).code).toBe("not_found")
  })
})

describe("a stream", () => {
  it("of another node gets neither its bytes nor its end", async () => {
    const { thief, victim, run, nothingHappened } = await aThief()
    const logs = await peers.node(victim.nodeId).openLogs([run], LOGS)
    await expect.poll(() => victim.received.some((message) => message.type === "stream_open")).toBe(true)
    const opened = victim.received.find((message) => message.type === "stream_open")
    if (opened?.type !== "stream_open") throw new Error("no stream")
    thief.sendBytes(opened.stream, new TextEncoder().encode('{"forged":1}\n'))
    thief.send({ type: "stream_end", stream: opened.stream, error: { code: "forged", message: "forged" } })
    await thief.acknowledged(thief.report([]))
    victim.sendBytes(opened.stream, new TextEncoder().encode("own\n"))
    victim.send({ type: "stream_end", stream: opened.stream, error: null })
    expect(await new Response(logs).text()).toBe("own\n")
    await nothingHappened()
  })

  it("that is not open takes frames no larger than agreed", async () => {
    const { thief, nothingHappened } = await aThief()
    thief.sendBytes(7, new Uint8Array(MAX_STREAM_CHUNK_BYTES))
    await thief.acknowledged(thief.report([]))
    thief.sendBytes(7, new Uint8Array(MAX_STREAM_CHUNK_BYTES + 1))
    await expect.poll(() => thief.closed?.code).toBe(CLOSE.protocol_error)
    await nothingHappened()
  })
})

describe("a flood", () => {
  const flood: [what: string, message: NodeMessage][] = [
    ["conditions", { type: "condition", condition: { accepting: true, reason: null, conditions: [] } }],
    ["command results", { type: "command_result", id: 1, error: null, data: null }],
    ["stream ends", { type: "stream_end", stream: 1, error: null }],
  ]
  it.each(flood)("of %s ends the session", async (_, message) => {
    const { thief, nothingHappened } = await aThief()
    vi.useFakeTimers({ toFake: ["Date"] }) // all of it at once, however slow this machine is
    for (let i = 0; i < 8_000; i++) thief.send(message)
    await expect.poll(() => thief.closed?.code, { timeout: 10_000 }).toBe(CLOSE.protocol_error)
    await nothingHappened()
  })

  it("of empty frames ends the session", async () => {
    const { thief, nothingHappened } = await aThief()
    vi.useFakeTimers({ toFake: ["Date"] })
    for (let i = 0; i < 8_000; i++) thief.sendBytes(7, new Uint8Array(0))
    await expect.poll(() => thief.closed?.code, { timeout: 10_000 }).toBe(CLOSE.protocol_error)
    await nothingHappened()
  })

  it("of facts, each as large as they may be, ends the session", async () => {
    const { thief, nothingHappened } = await aThief()
    const devices = Array.from({ length: 1024 }, (_, i) => aGpu(`${i}-${"x".repeat(200)}`))
    const text = JSON.stringify({ type: "facts", facts: someFacts({ devices }) })
    for (let i = 0; i < 200; i++) thief.sendText(text)
    await expect.poll(() => thief.closed?.code, { timeout: 10_000 }).toBe(CLOSE.protocol_error)
    await nothingHappened()
  })

  it("of reports that it does not wait to have acknowledged ends the session", async () => {
    const { tenant, thief, victim, id, ownRun } = await aThief()
    // Its own run's tenant is slow, so that they wait.
    const { own } = await ownRun()
    const held = Promise.withResolvers<{ unknown: RunId[] }>()
    vi.spyOn(TenantObject.prototype, "observe").mockReturnValueOnce(held.promise)
    for (let i = 0; i < 100; i++) thief.report([anObservation(own)])
    await expect.poll(() => thief.closed?.code, { timeout: 10_000 }).toBe(CLOSE.protocol_error)
    held.resolve({ unknown: [] })
    expect(victim.closed).toBeNull()
    expect((await tenant.getContainer(id)).status).toBe("running")
  })

  it("in one message ends the session", async () => {
    const { thief, nothingHappened } = await aThief()
    thief.sendText(JSON.stringify({ type: "command_result", id: 1, error: null, data: "x".repeat(4 * 1024 * 1024) }))
    await expect.poll(() => thief.closed?.code).toBe(CLOSE.protocol_error)
    await nothingHappened()
  })

  it("is not what a busy bridge says: a thousand acknowledged reports, and streams within their credit", async () => {
    const { thief, ownRun } = await aThief()
    const { own } = await ownRun()
    for (let i = 0; i < 60; i++) {
      const last = Array.from({ length: 20 })
        .map(() => thief.report([anObservation(own, { revision: i + 1 })]))
        .at(-1)
      await thief.acknowledged(last ?? 0)
    }
    const logs = await peers.node(thief.nodeId).openLogs([own], LOGS)
    await expect.poll(() => thief.received.some((message) => message.type === "stream_open")).toBe(true)
    const opened = thief.received.find((message) => message.type === "stream_open")
    if (opened?.type !== "stream_open") throw new Error("no stream")
    const reading = new Response(logs).arrayBuffer()
    for (let sent = 0; sent < STREAM_CREDIT_BYTES; sent += 32) thief.sendBytes(opened.stream, new Uint8Array(32))
    thief.send({ type: "stream_end", stream: opened.stream, error: null })
    expect((await reading).byteLength).toBe(STREAM_CREDIT_BYTES)
    expect(thief.closed).toBeNull()
  })
})
