import { describe, expect, it } from "vitest"
import { aCall, aControlPlane, refusal } from "../support/control-plane.ts"
import { aCreate, anExit, anObservation } from "../support/factories.ts"

const settled = { status: "settled", run: null, timeout_ms: 5_000 } as const
const becomes = (status: "running" | "exited" | "removed" | "stopping" | "paused") => ({ status, run: null, timeout_ms: 5_000 })

describe("a container's way through the control plane", () => {
  it("is placed, assigned, started and ended, and each step is told as an event", async () => {
    const { tenant, node } = await aControlPlane()
    const host = await node({ manual: true })
    const { status, body, replayed } = await tenant.createContainer(aCall(), aCreate({ name: "web" }))
    expect({ status, replayed }).toEqual({ status: 201, replayed: false })
    expect(body).toMatchObject({
      status: "scheduling",
      name: "web",
      reason: null,
      run: { state: "placed", attempt: 1, node_region: "eu-1" },
    })
    const run = body.run
    if (!run) throw new Error("no run")

    const assignment = await host.assigned(run.id)
    expect(assignment).toMatchObject({
      desired: "running",
      paused: false,
      spec: { hostname: "web", image: "registry.example/app:1" },
    })
    await host.acknowledged(host.report([anObservation(run.id, { state: "preparing" })]))
    expect((await tenant.getContainer("web")).status).toBe("pulling")
    host.report([anObservation(run.id, { revision: 2, timings: { start: 7 } })])
    const running = await tenant.wait("web", becomes("running"))
    expect(running).toMatchObject({
      reached: true,
      container: { status: "running", actions: ["stop", "restart", "kill", "pause"] },
    })
    expect(Object.keys(running.container.run?.timings ?? {})).toEqual(["committed", "placed", "assigned", "start"])
    host.report([anObservation(run.id, { state: "failed", revision: 3, exit: anExit({ code: 3, log_tail: ["no"] }) })])
    const exited = await tenant.wait("web", becomes("exited"))
    expect(exited.container.run?.exit).toMatchObject({ code: 3, log_tail: ["no"] })

    const events = await tenant.listEvents({ after: null, types: [], container: "web", limit: 100 })
    expect(events.items.map((event) => event.type)).toEqual([
      "container.created",
      "container.scheduling",
      "container.pulling",
      "container.running",
      "container.exited",
    ])
  })

  it("stops, starts again with the digest of its first run, restarts, pauses and is removed", async () => {
    const { tenant, node, cell } = await aControlPlane()
    const host = await node()
    const { body } = await tenant.createContainer(aCall(), aCreate({ name: "web" }))
    const { id } = body
    expect((await tenant.wait(id, settled)).container.status).toBe("running")

    await tenant.act(aCall(), id, { kind: "pause" })
    expect((await tenant.wait(id, becomes("paused"))).reached).toBe(true)
    await tenant.act(aCall(), id, { kind: "unpause" })
    expect((await tenant.wait(id, becomes("running"))).reached).toBe(true)

    const stopping = await tenant.act(aCall(), id, { kind: "stop", timeout_seconds: 3 })
    expect(stopping.body.status).toBe("stopping")
    expect((await tenant.wait(id, becomes("exited"))).container.run?.state).toBe("stopped")
    expect(host.assignments.get(body.run?.id ?? ("" as never))).toMatchObject({ desired: "stopped", stop_timeout_seconds: 3 })

    await tenant.act(aCall(), id, { kind: "start" })
    const second = (await tenant.wait(id, becomes("running"))).container.run
    expect(second).toMatchObject({ attempt: 2, image_digest: `sha256:${"a".repeat(64)}` })
    expect((await host.assigned(second?.id ?? ("" as never))).spec.image_digest).toBe(`sha256:${"a".repeat(64)}`)

    await tenant.act(aCall(), id, { kind: "restart", timeout_seconds: null })
    const third = await tenant.wait(id, becomes("running"))
    expect(third.container.run?.attempt).toBe(3)

    await tenant.act(aCall(), id, { kind: "remove", force: true })
    expect((await tenant.wait(id, becomes("removed"))).reached).toBe(true)
    expect(await tenant.getContainer(id)).toMatchObject({ status: "removed", actions: [] })
    expect(await refusal(() => tenant.getContainer("web"))).toMatchObject({ code: "not_found" })
    await expect.poll(() => host.assignments.size).toBe(0)
    await expect.poll(async () => (await cell.listNodes())[0]?.reserved.runs).toBe(0)
  })
})
