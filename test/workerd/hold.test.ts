import { describe, expect, it } from "vitest"
import { aCall, aControlPlane } from "../support/control-plane.ts"
import { aCreate, anExit, anObservation } from "../support/factories.ts"

const LONG_MS = 20_000

describe("an answer that is held", () => {
  it("comes once the container runs", async () => {
    const { tenant, node } = await aControlPlane()
    await node()
    expect(await tenant.createContainer(aCall(), aCreate(), LONG_MS)).toMatchObject({
      status: 201,
      replayed: false,
      body: { status: "running", run: { state: "running", attempt: 1 } },
    })
  })

  it("comes once the container has ended without having run", async () => {
    const { tenant, node } = await aControlPlane()
    const host = await node({ manual: true })
    const held = tenant.createContainer(aCall(), aCreate(), LONG_MS)
    await expect.poll(() => host.assignments.size).toBe(1)
    const [run] = host.assignments.keys()
    if (run === undefined) throw new Error("no run")
    const reason = { code: "image_not_found", message: "There is no such image." }
    host.report([anObservation(run, { state: "rejected", reason, exit: anExit({ code: null, by: "host" }) })])
    expect((await held).body).toMatchObject({ status: "exited", reason })
  })

  it("comes at once for a container that is only created", async () => {
    const { tenant } = await aControlPlane()
    expect((await tenant.createContainer(aCall(), aCreate({ start: false }), LONG_MS)).body.status).toBe("created")
  })

  it("comes when the time is over, with the container as it is then", async () => {
    const { tenant } = await aControlPlane()
    const { status, body } = await tenant.createContainer(aCall(), aCreate(), 50)
    expect({ status, body }).toMatchObject({ status: 201, body: { status: "scheduling", reason: { code: "no_capacity" } } })
  })

  it("is waited for by a repeat as well, which makes nothing and finds the first call done", async () => {
    const { tenant, node } = await aControlPlane()
    const first = tenant.createContainer(aCall("k"), aCreate(), LONG_MS)
    const scheduling = async () =>
      (await tenant.listContainers({ cursor: null, limit: 9, labels: [], status: "scheduling" })).items.length
    await expect.poll(scheduling).toBe(1)
    expect(await tenant.createContainer(aCall("k"), aCreate())).toMatchObject({ replayed: true, body: { status: "scheduling" } })
    const repeat = tenant.createContainer(aCall("k"), aCreate(), LONG_MS)
    await node()
    const { body } = await first
    expect(body.status).toBe("running")
    expect(await repeat).toMatchObject({ replayed: true, body: { id: body.id, status: "running", run: { attempt: 1 } } })
  })

  it("of a start, a restart and a stop shows what became of it", async () => {
    const { tenant, node } = await aControlPlane()
    await node()
    const { body } = await tenant.createContainer(aCall(), aCreate({ start: false }))
    const act = async (kind: "start" | "restart" | "stop") =>
      (await tenant.act(aCall(), body.id, kind === "start" ? { kind } : { kind, timeout_seconds: 1 }, LONG_MS)).body
    expect(await act("start")).toMatchObject({ status: "running", run: { attempt: 1 } })
    expect(await act("restart")).toMatchObject({ status: "running", run: { attempt: 2 } })
    expect(await act("stop")).toMatchObject({ status: "exited", run: { attempt: 2, state: "stopped" } })
  })
})
