import { describe, expect, it } from "vitest"
import type { Event } from "../../schema/api.ts"
import { aCall, aControlPlane, peers, refusal } from "../support/control-plane.ts"
import { aCreate, anExit, anId, anObservation } from "../support/factories.ts"

describe("idempotency keys", () => {
  it("give the first answer again to the same request, and make nothing twice", async () => {
    const { tenant } = await aControlPlane()
    const first = await tenant.createContainer(aCall("k1"), aCreate())
    const again = await tenant.createContainer(aCall("k1"), aCreate())
    expect(again).toEqual({ ...first, replayed: true })
    expect((await tenant.listContainers({ cursor: null, limit: 10, labels: [], status: null })).items).toHaveLength(1)
  })

  it("refuse another request under the same key", async () => {
    const { tenant } = await aControlPlane()
    await tenant.createContainer(aCall("k1", "one"), aCreate())
    const refused = await refusal(() => tenant.createContainer(aCall("k1", "two"), aCreate()))
    expect(refused.code).toBe("idempotency_mismatch")
  })

  it("say so while the first request is still running", async () => {
    const { tenant } = await aControlPlane()
    const first = tenant.createContainer(aCall("k1"), aCreate())
    const second = await refusal(() => tenant.createContainer(aCall("k1"), aCreate()))
    expect(second.code).toBe("idempotency_in_progress")
    expect((await first).status).toBe(201)
  })

  it("belong to one subject each", async () => {
    const { tenant } = await aControlPlane()
    const first = await tenant.createContainer(aCall("k1"), aCreate())
    const other = await tenant.createContainer({ ...aCall("k1"), subject: "bob" }, aCreate())
    expect(other.body.id).not.toBe(first.body.id)
  })

  it("are not used up by a refusal", async () => {
    const { tenant } = await aControlPlane()
    await tenant.createContainer(aCall(), aCreate({ name: "web", start: false }))
    expect((await refusal(() => tenant.createContainer(aCall("k1"), aCreate({ name: "web" })))).code).toBe("name_taken")
    await tenant.act(aCall(), "web", { kind: "remove", force: false })
    expect((await tenant.createContainer(aCall("k1"), aCreate({ name: "web" }))).replayed).toBe(false)
  })

  it("answer a repeated removal by name after the name is free", async () => {
    const { tenant } = await aControlPlane()
    await tenant.createContainer(aCall(), aCreate({ name: "web", start: false }))
    const first = await tenant.act(aCall("k1"), "web", { kind: "remove", force: false })
    expect(first.body.status).toBe("removed")
    expect(await tenant.act(aCall("k1"), "web", { kind: "remove", force: false })).toEqual({ ...first, replayed: true })
  })
})

describe("names and quotas", () => {
  it("allow one live container to a name", async () => {
    const { tenant } = await aControlPlane()
    await tenant.createContainer(aCall(), aCreate({ name: "web" }))
    expect((await refusal(() => tenant.createContainer(aCall(), aCreate({ name: "web" })))).code).toBe("name_taken")
  })

  it("refuse what is over the quota and name the dimension, what is used and the limit", async () => {
    const { tenant } = await aControlPlane({ quota: { cpus: 1.5 } })
    await tenant.createContainer(aCall(), aCreate({ resources: { cpus: 1 } }))
    const { code, message } = await refusal(() => tenant.createContainer(aCall(), aCreate({ resources: { cpus: 0.6 } })))
    expect(code).toBe("quota_exceeded")
    expect(message).toBe("The quota for cpus is 1.5; 1 are in use and this asks for 0.6 more.")
  })

  it("count only what is wished to run, and check again at a start", async () => {
    const { tenant } = await aControlPlane({ quota: { containers: 1 } })
    const idle = await tenant.createContainer(aCall(), aCreate({ start: false }))
    const busy = await tenant.createContainer(aCall(), aCreate())
    expect((await refusal(() => tenant.act(aCall(), idle.body.id, { kind: "start" }))).code).toBe("quota_exceeded")
    await tenant.act(aCall(), busy.body.id, { kind: "stop", timeout_seconds: null })
    expect((await tenant.act(aCall(), idle.body.id, { kind: "start" })).body.status).toBe("scheduling")
  })

  it("count what is told to stop until it has stopped", async () => {
    const { tenant, node } = await aControlPlane({ quota: { containers: 1 } })
    const host = await node({ manual: true })
    const idle = await tenant.createContainer(aCall(), aCreate({ start: false }))
    const { body } = await tenant.createContainer(aCall(), aCreate({ stop: { timeout_seconds: 3600 } }))
    const run = body.run?.id
    if (!run) throw new Error("no run")
    await host.assigned(run)
    await host.acknowledged(host.report([anObservation(run)]))
    await tenant.act(aCall(), body.id, { kind: "stop", timeout_seconds: null })
    expect((await refusal(() => tenant.act(aCall(), idle.body.id, { kind: "start" }))).code).toBe("quota_exceeded")
    await host.acknowledged(host.report([anObservation(run, { state: "stopped", revision: 2, exit: anExit({ by: "tenant" }) })]))
    expect((await tenant.act(aCall(), idle.body.id, { kind: "start" })).body.status).toBe("scheduling")
  })

  it("know nothing of tenants that were never configured, nor of other tenants' containers", async () => {
    const { tenant } = await aControlPlane()
    const { body } = await tenant.createContainer(aCall(), aCreate())
    const other = await aControlPlane()
    expect((await refusal(() => other.tenant.getContainer(body.id))).code).toBe("not_found")
    const nobody = peers.tenant(anId("ten"))
    expect((await refusal(() => nobody.createContainer(aCall(), aCreate()))).code).toBe("not_found")
  })
})

describe("actions", () => {
  it("are refused with what the status is and what it allows", async () => {
    const { tenant } = await aControlPlane()
    const { body } = await tenant.createContainer(aCall(), aCreate({ start: false }))
    const { code, message } = await refusal(() => tenant.act(aCall(), body.id, { kind: "stop", timeout_seconds: null }))
    expect(code).toBe("action_not_allowed")
    expect(message).toBe("Cannot stop a container that is created. It allows: start, remove.")
  })

  it("stop a container that waits for capacity at once", async () => {
    const { tenant } = await aControlPlane()
    const { body } = await tenant.createContainer(aCall(), aCreate())
    const stopped = await tenant.act(aCall(), body.id, { kind: "stop", timeout_seconds: null })
    expect(stopped.body).toMatchObject({ status: "exited", run: { state: "stopped" } })
  })

  it("deliver a signal through the node, and give back what the node refuses", async () => {
    const { tenant, node } = await aControlPlane()
    const host = await node()
    const { body } = await tenant.createContainer(aCall(), aCreate())
    await tenant.wait(body.id, { status: "running", run: null, timeout_ms: 5_000 })
    const killing = tenant.act(aCall(), body.id, { kind: "kill", signal: "SIGUSR1" })
    const command = await expect
      .poll(() => host.received.find((message) => message.type === "command"))
      .toBeDefined()
      .then(() => host.received.find((message) => message.type === "command"))
    if (command?.type !== "command") throw new Error("no command")
    expect(command.command).toEqual({ kind: "signal", signal: "SIGUSR1" })
    host.send({ type: "command_result", id: command.id, error: null, data: null })
    expect((await killing).body.status).toBe("running")
  })

  it("take SIGKILL for a stop without time, which the restart policy respects", async () => {
    const { tenant, node } = await aControlPlane()
    const host = await node()
    const { body } = await tenant.createContainer(aCall(), aCreate({ restart: { policy: "always" } }))
    await tenant.wait(body.id, { status: "running", run: null, timeout_ms: 5_000 })
    await tenant.act(aCall(), body.id, { kind: "kill", signal: "SIGKILL" })
    const ended = await tenant.wait(body.id, { status: "exited", run: null, timeout_ms: 5_000 })
    expect(ended).toMatchObject({ reached: true, container: { restarts: 0 } })
    expect([...host.assignments.values()][0]).toMatchObject({ desired: "stopped", stop_timeout_seconds: 0 })
  })
})

describe("waiting", () => {
  it("ends at its time-out with the container as it is", async () => {
    const { tenant } = await aControlPlane()
    const { body } = await tenant.createContainer(aCall(), aCreate())
    const waited = await tenant.wait(body.id, { status: "running", run: null, timeout_ms: 30 })
    expect(waited).toMatchObject({ reached: false, container: { status: "scheduling" } })
  })

  it("tells the end of one run from another's", async () => {
    const { tenant, node } = await aControlPlane()
    const host = await node({ manual: true })
    const { body } = await tenant.createContainer(aCall(), aCreate({ restart: { policy: "always" } }))
    const first = body.run?.id
    if (!first) throw new Error("no run")
    await host.assigned(first)
    const waiting = tenant.wait(body.id, { status: "exited", run: first, timeout_ms: 5_000 })
    host.report([anObservation(first, { state: "completed", exit: anExit(), started_at_ms: Date.now() })])
    expect((await waiting).reached).toBe(true)
  })
})

describe("events", () => {
  const all = { after: null, types: [], container: null, limit: 100 }

  it("are read on from a cursor or from an event's id, and filtered by type and container", async () => {
    const { tenant } = await aControlPlane()
    await tenant.createContainer(aCall(), aCreate({ name: "one", start: false }))
    await tenant.createContainer(aCall(), aCreate({ name: "two" }))
    const page = await tenant.listEvents({ ...all, limit: 2 })
    expect(page.items.map((event) => [event.container_name, event.type])).toEqual([
      ["one", "container.created"],
      ["two", "container.created"],
    ])
    const rest = await tenant.listEvents({ ...all, after: page.next_cursor })
    expect(rest.items.map((event) => event.type)).toEqual(["container.scheduling", "container.unplaceable"])
    expect(await tenant.listEvents({ ...all, after: page.items[1]?.id ?? "" })).toEqual(rest)
    const filtered = await tenant.listEvents({ ...all, container: "two", types: ["container.created"] })
    expect(filtered.items).toEqual([page.items[1]])
    expect((await tenant.listEvents({ ...all, types: ["container.*"] })).items).toHaveLength(4)
    expect((await tenant.listEvents({ ...all, types: ["token.*"] })).items).toEqual([])
    expect((await refusal(() => tenant.listEvents({ ...all, after: "nonsense" }))).code).toBe("invalid_field")
  })

  it("are followed as they happen", async () => {
    const { tenant } = await aControlPlane()
    await tenant.createContainer(aCall(), aCreate({ name: "one", start: false }))
    const reader = (await tenant.followEvents(all)).pipeThrough(new TextDecoderStream()).getReader()
    const told = async () => JSON.parse((await reader.read()).value ?? "") as Event
    expect((await told()).container_name).toBe("one")
    await tenant.createContainer(aCall(), aCreate({ name: "two", start: false }))
    expect((await told()).container_name).toBe("two")
    await reader.cancel()
  })
})
