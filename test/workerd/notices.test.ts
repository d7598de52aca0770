/** What a node tells of its runs beside their states becomes events: each once, and not without end. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { MAX_NOTICES_OF_A_KIND } from "../../durable/tenant/notices.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Notice, NoticeKind } from "../../schema/protocol.ts"
import { aCall, aControlPlane } from "../support/control-plane.ts"
import { aCreate } from "../support/factories.ts"

afterEach(() => {
  vi.useRealTimers()
})

const aNotice = (run_id: RunId, kind: NoticeKind = "disk_full", id: string = crypto.randomUUID()): Notice => ({
  id,
  run_id,
  kind,
  at_ms: Date.now(),
  reason: { code: kind, message: "It happened." },
})

async function aRunningContainer() {
  const plane = await aControlPlane()
  const host = await plane.node()
  const { body } = await plane.tenant.createContainer(aCall(), aCreate())
  const { container } = await plane.tenant.wait(body.id, { status: "running", run: null, timeout_ms: 5_000 })
  if (!container.run) throw new Error("no run")
  const told = async () => {
    const { items } = await plane.tenant.listEvents({ after: null, types: [], container: body.id, limit: 1000 })
    const kinds = [
      "container.disk_full",
      "container.accelerator_lost",
      "container.isolation_deviated",
      "container.logs_throttled",
    ]
    return items.filter(({ type }) => kinds.includes(type))
  }
  return { ...plane, host, id: body.id, run: container.run.id, told }
}

describe("a notice", () => {
  it.each(["disk_full", "accelerator_lost", "isolation_deviated", "logs_throttled"] as const)(
    "of kind %s becomes an event with its reason",
    async (kind) => {
      const { host, run, told } = await aRunningContainer()
      await host.acknowledged(host.report([], [], [aNotice(run, kind)]))
      const reason = { code: kind, message: "It happened." }
      expect(await told()).toMatchObject([{ type: `container.${kind}`, run_id: run, data: { reason } }])
    },
  )

  it("that is repeated is told once", async () => {
    const { node, host, run, told } = await aRunningContainer()
    const notice = aNotice(run)
    await host.acknowledged(host.report([], [], [notice, notice]))
    const again = await node({ nodeId: host.nodeId, manual: true })
    await again.acknowledged(again.report([], [], [notice]))
    expect(await told()).toHaveLength(1)
  })

  it("reaches whoever follows the events", async () => {
    const { tenant, host, run } = await aRunningContainer()
    const request = { after: null, types: ["container.disk_full"], container: null, limit: 9 }
    const reader = (await tenant.followEvents(request)).getReader()
    host.report([], [], [aNotice(run)])
    expect(new TextDecoder().decode((await reader.read()).value)).toContain('"container.disk_full"')
    await reader.cancel()
  })

  it("of one kind is told of one run so often and no oftener, and leaves room for other kinds", async () => {
    const { host, run, told } = await aRunningContainer()
    const many = Array.from({ length: 150 }, () => aNotice(run, "logs_throttled"))
    await host.acknowledged(host.report([], [], many))
    await host.acknowledged(host.report([], [], [...many, aNotice(run, "accelerator_lost")]))
    const events = await told()
    expect(events.filter(({ type }) => type === "container.logs_throttled")).toHaveLength(MAX_NOTICES_OF_A_KIND)
    expect(events.filter(({ type }) => type === "container.accelerator_lost")).toHaveLength(1)
  })

  it("is forgotten with its run", async () => {
    const { tenant, tenantStub, host, run, id } = await aRunningContainer()
    await host.acknowledged(host.report([], [], [aNotice(run)]))
    await tenant.act(aCall(), id, { kind: "remove", force: true })
    await tenant.wait(id, { status: "removed", run: null, timeout_ms: 5_000 })
    const kept = () =>
      runInDurableObject(tenantStub, (_, { storage }) => storage.sql.exec("select * from notices").toArray().length)
    expect(await kept()).toBe(1)
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 25 * 3_600_000 })
    await tenant.createContainer(aCall(), aCreate()) // sets the alarm
    await runDurableObjectAlarm(tenantStub)
    expect(await kept()).toBe(0)
  })
})
