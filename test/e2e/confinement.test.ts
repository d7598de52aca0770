/** What a tenant has of isolation over HTTP: a sandboxed container, and what becomes of one that is less confined than promised. */
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { makeHelloImage } from "../../bin/hello-image.ts"
import { layoutOf } from "../../bin/platform.ts"
import { parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import type { Container } from "../../schema/api.ts"
import { Isolation } from "../../schema/isolation.ts"
import { temporaryFolder } from "../support/images.ts"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { openPlatform, problemOf, tenantOf } from "../support/platform.ts"
import type { TestPlatform, TestTenant, Wish } from "../support/platform.ts"
import { waitFor } from "../support/wait-for.ts"

const state = temporaryFolder("confinement")
let before: Snapshot
let berth: TestPlatform

beforeAll(async () => {
  before = snapshot([state])
  await makeHelloImage(layoutOf(state).images)
  berth = await openPlatform({ state, bridgeArgs: ["--profiles", "hardened,sandboxed", "--isolation-check", "1"] })
})
afterAll(() => rmSync(state, { recursive: true, force: true }))

const sh = (script: string, wish: Wish = {}): Wish => ({ image: "localhost/hello", command: ["sh", "-c", script], ...wish })
const sandboxed = (script: string, wish: Wish = {}) => sh(script, { profile: "sandboxed", network: { egress: "none" }, ...wish })

describe("a sandboxed container", () => {
  it("runs on a kernel of its own, shows how it is confined, and ends as it says", async () => {
    const tenant = await berth.tenant("sandboxed")
    const { id } = await tenant.reaches(
      (await tenant.create(sandboxed("cat /proc/version; echo up; sleep 1; exit 3"))).id,
      "running",
    )
    const read = Isolation.parse(await (await tenant.call("GET", `/v1/containers/${id}/isolation`)).json())
    expect(read).toMatchObject({ profile: "sandboxed", runtime: { name: "runsc" }, deviations: [], verdict: "holds" })
    const { run, reason } = await tenant.reaches(id, "exited")
    expect([run?.exit?.code, reason]).toEqual([3, expect.anything()])
    expect(await tenant.log(id)).toMatch(/^Linux version 4\.4\.0[^]*\nup\n$/)
    await tenant.remove(id)
  })

  it("that asks what no node can give waits, and is told what is missing", async () => {
    const tenant = await berth.tenant("wanting")
    const { id } = await tenant.create(sandboxed("true", { network: { egress: "open" } }))
    await waitFor("the reason", async () => (await now(tenant, id)).reason?.message.includes("network") === true)
    expect((await now(tenant, id)).status).toBe("scheduling")
    await tenant.remove(id)
  })

  it("cannot narrow a filter that it does not have", async () => {
    const tenant = await berth.tenant("denying")
    const answer = await tenant.call("POST", "/v1/containers", { body: sandboxed("true", { seccomp: { deny: ["ptrace"] } }) })
    expect((await problemOf(answer)).status).toBe(422)
  })
})

const loosen = (container: Container) => {
  const { mounts, version } = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  const mount = mounts.get(version === 2 ? "unified" : "pids") ?? ""
  writeFileSync(join(mount, "berth", container.run?.id ?? "", "pids.max"), "9999")
}
const deviations = (tenant: TestTenant) => tenant.events("types=container.isolation_deviated")

describe("a container that is less confined than promised", () => {
  it("is told of and runs on, by a tenant's usual policy", async () => {
    const tenant = await berth.tenant("patient")
    const container = await tenant.reaches((await tenant.create(sh("sleep 100"))).id, "running")
    loosen(container)
    await waitFor("the event", async () => (await deviations(tenant)).length > 0, 10_000)
    const [event] = await deviations(tenant)
    expect(event?.data.reason?.message).toContain("the process limit is 9999, not")
    expect((await now(tenant, container.id)).status).toBe("running")
    await tenant.remove(container.id)
  })

  it("is ended by its host where the policy says so", async () => {
    const tenant = await berth.tenant("strict")
    const operator = tenantOf(berth.platform.url, berth.platform.operatorToken)
    const patched = await operator.call("PATCH", `/v1/admin/tenants/${tenant.id}`, { body: { policy: { on_deviation: "stop" } } })
    expect(patched.status).toBe(200)
    const container = await tenant.reaches((await tenant.create(sh("sleep 100"))).id, "running")
    loosen(container)
    const { run, reason } = await tenant.reaches(container.id, "exited", 10)
    expect([run?.exit?.by, reason?.code]).toEqual(["host", "isolation_deviated"])
    expect(await deviations(tenant)).toHaveLength(1)
    await tenant.remove(container.id)
  })
})

it("leaves nothing on the machine", async () => {
  await berth.stop()
  await expectNothingLeft(state, before)
})

async function now(tenant: TestTenant, id: string): Promise<Container> {
  return (await (await tenant.call("GET", `/v1/containers/${id}`)).json()) as Container
}
