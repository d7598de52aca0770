/** What an operator's policy makes of a tenant's containers, before they are placed, where, and how they run. */
import { describe, expect, it } from "vitest"
import { Policy, Quota } from "../../schema/api.ts"
import { CAPABILITIES } from "../../schema/container.ts"
import { aCall, aControlPlane, refusal } from "../support/control-plane.ts"
import { aCreate } from "../support/factories.ts"

const running = { status: "running", run: null, timeout_ms: 5_000 } as const

const offering = (...features: ("network" | "disk_quota" | "io_limits" | "buffered_io_limits" | "pause")[]) => ({
  profiles: [{ name: "hardened" as const, runtime: "crun", features }],
})

async function aTenantUnder(policy: Partial<Policy>) {
  const plane = await aControlPlane({ policy })
  let revision = 1
  const change = (changed: Partial<Policy>, at = ++revision) => {
    const quota = Quota.parse({})
    const { tenantId: tenant_id, cellId } = plane
    return plane.tenant.configure({
      tenant_id,
      name: "acme",
      quota,
      policy: Policy.parse(changed),
      revision: at,
      cells: [cellId],
    })
  }
  return { ...plane, change }
}

describe("a policy without capabilities", () => {
  it("refuses a container that names some, and gives none to one that names none", async () => {
    const { tenant, node } = await aTenantUnder({ capabilities: "none" })
    const host = await node()
    const refused = await refusal(() => tenant.createContainer(aCall(), aCreate({ capabilities: ["CAP_KILL"] })))
    expect(refused.code).toBe("policy_refused")
    expect(refused.message).toContain("CAP_KILL")
    for (const capabilities of [undefined, []]) {
      const { body } = await tenant.createContainer(aCall(), aCreate({ capabilities }))
      expect(body.capabilities).toEqual([])
      const run = body.run?.id
      if (!run) throw new Error("no run")
      expect((await host.assigned(run)).spec.capabilities).toEqual([])
    }
  })

  it("that comes later leaves live runs as they are, and takes them from the next", async () => {
    const { tenant, node, change } = await aTenantUnder({})
    const host = await node()
    const { body } = await tenant.createContainer(aCall(), aCreate())
    await tenant.wait(body.id, running)
    await change({ capabilities: "none" })
    const live = await tenant.getContainer(body.id)
    expect(live.capabilities).toEqual([...CAPABILITIES])
    await tenant.updateContainer(aCall(), body.id, { network: { egress_bytes_per_second: 1_000 } })
    const run = live.run?.id
    if (!run) throw new Error("no run")
    await expect.poll(() => host.assignments.get(run)?.spec.network.egress_bytes_per_second).toBe(1_000)
    expect(host.assignments.get(run)?.spec.capabilities).toEqual([...CAPABILITIES])
    await tenant.act(aCall(), body.id, { kind: "restart", timeout_seconds: 0 })
    await expect.poll(async () => (await tenant.getContainer(body.id)).run).toMatchObject({ attempt: 2, state: "running" })
    expect((await tenant.getContainer(body.id)).capabilities).toEqual([])
  })

  it("that comes later lets no container with named ones begin a run, and says why", async () => {
    const { tenant, node, change } = await aTenantUnder({})
    const waiting = await tenant.createContainer(aCall(), aCreate({ capabilities: ["CAP_CHOWN"] }))
    const idle = await tenant.createContainer(aCall(), aCreate({ capabilities: ["CAP_CHOWN"], start: false }))
    await change({ capabilities: "none" })
    await node()
    const { container } = await tenant.wait(waiting.body.id, { ...running, status: "exited" })
    expect(container).toMatchObject({ run: { state: "rejected" }, reason: { code: "policy_refused" } })
    expect((await refusal(() => tenant.act(aCall(), idle.body.id, { kind: "start" }))).code).toBe("policy_refused")
    await change({})
    await tenant.act(aCall(), idle.body.id, { kind: "start" })
    expect((await tenant.wait(idle.body.id, running)).reached).toBe(true)
  })

  it("is not undone by an older configuration that comes late", async () => {
    const { tenant, change } = await aTenantUnder({})
    await change({ capabilities: "none" }, 5)
    await change({}, 4)
    expect((await refusal(() => tenant.createContainer(aCall(), aCreate({ capabilities: ["CAP_KILL"] })))).code).toBe(
      "policy_refused",
    )
  })
})

describe("a policy of deviations", () => {
  it("goes with every run that is placed under it", async () => {
    const { tenant, node, change } = await aTenantUnder({ on_deviation: "stop" })
    const host = await node()
    const first = await tenant.createContainer(aCall(), aCreate())
    await change({ on_deviation: "report" })
    const second = await tenant.createContainer(aCall(), aCreate())
    const told = async (run: typeof first) => {
      if (!run.body.run) throw new Error("no run")
      return (await host.assigned(run.body.run.id)).spec.on_deviation
    }
    expect([await told(first), await told(second)]).toEqual(["stop", "report"])
  })
})

describe("a policy against vulnerable nodes", () => {
  it("places nothing there, and says so", async () => {
    const { tenant, node, change } = await aTenantUnder({ vulnerable_nodes: "refuse" })
    await node({ facts: { versions: { runc: "1.1.11" } } })
    const { body } = await tenant.createContainer(aCall(), aCreate())
    expect(body.reason?.message).toContain("1 node: has a known vulnerability, which the policy refuses")
    await node({ facts: { versions: { runc: "1.5.1", crun: "1.30" } } })
    expect((await tenant.wait(body.id, running)).reached).toBe(true)
    await change({})
    expect((await tenant.createContainer(aCall(), aCreate())).body.reason).toBeNull()
  })
})

describe("what a profile of a host can do", () => {
  it("shows in what may be done: one that cannot pause is not asked to", async () => {
    const { tenant, node } = await aControlPlane()
    await node({ facts: offering("network", "disk_quota") })
    const { body } = await tenant.createContainer(aCall(), aCreate())
    const { container } = await tenant.wait(body.id, running)
    expect(container.actions).toEqual(["stop", "restart", "kill"])
    expect((await refusal(() => tenant.act(aCall(), body.id, { kind: "pause" }))).code).toBe("action_not_allowed")
  })

  it.each([
    [["network", "disk_quota", "pause", "io_limits"] as const, 1],
    [["network", "disk_quota", "pause", "io_limits", "buffered_io_limits"] as const, 0],
  ])("shows in a warning where disk limits reach less far than their name: %j", async (features, warnings) => {
    const { tenant, node } = await aControlPlane()
    await node({ facts: offering(...features) })
    const io = { write_bytes_per_second: 1_000_000 }
    const { body } = await tenant.createContainer(aCall(), aCreate({ resources: { io } }))
    const { container } = await tenant.wait(body.id, running)
    expect(container.warnings).toHaveLength(warnings)
    expect((await tenant.createContainer(aCall(), aCreate())).body.warnings).toEqual([])
  })

  it("shows in why nothing fits", async () => {
    const { tenant, node } = await aControlPlane()
    await node({ facts: offering("network", "disk_quota") })
    const { body } = await tenant.createContainer(aCall(), aCreate({ resources: { io: { weight: 200 } } }))
    expect(body.reason?.message).toContain("1 node: cannot weigh disk I/O")
    const sandboxed = await tenant.createContainer(aCall(), aCreate({ profile: "sandboxed" }))
    expect(sandboxed.body.reason?.message).toContain("1 node: does not offer the isolation profile")
  })
})
