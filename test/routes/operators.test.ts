import { describe, expect, it } from "vitest"
import { NodeView, Tenant } from "../../schema/api.ts"
import { MintedToken } from "../../schema/tokens.ts"
import { aTenant, call, problemOf } from "../support/api.ts"
import { aHostKey, aJoinToken, anAssertion, anEnrolledNode, dial, enroll } from "../support/enrolled-node.ts"
import { anId } from "../support/factories.ts"
import { aToken } from "../support/tokens.ts"
import { waitFor } from "../support/wait-for.ts"

const operate = async (method: string, path: string, body?: object) => call(method, path, { token: await aToken(), body })
const aName = () => `t-${crypto.randomUUID()}`

describe("tenants", () => {
  it("are made with a quota, read and listed page by page", async () => {
    const name = aName()
    const response = await operate("POST", "/v1/admin/tenants", { name, quota: { containers: 2 } })
    expect(response.status).toBe(201)
    const tenant = Tenant.parse(await response.json())
    expect(response.headers.get("location")).toBe(`/v1/admin/tenants/${tenant.id}`)
    expect(tenant).toMatchObject({ name, quota: { containers: 2, cpus: 1000 } })
    expect(await (await operate("GET", `/v1/admin/tenants/${tenant.id}`)).json()).toEqual(tenant)
    await operate("POST", "/v1/admin/tenants", { name: aName() })
    const seen: string[] = []
    let path: string | null = "/v1/admin/tenants?limit=1"
    while (path !== null) {
      const page: { items: Tenant[]; next_cursor: string | null } = await (await operate("GET", path)).json()
      expect(page.items.length).toBeLessThanOrEqual(1)
      seen.push(...page.items.map(({ id }) => id))
      path = page.next_cursor === null ? null : `/v1/admin/tenants?limit=1&cursor=${page.next_cursor}`
    }
    expect(seen).toContain(tenant.id)
    expect(new Set(seen).size).toBe(seen.length)
  })

  it("are changed by a merge patch: what is left out stays", async () => {
    const { id } = await aTenant({ containers: 2 })
    const path = `/v1/admin/tenants/${id}`
    const patch = async (body: object, type = "application/merge-patch+json") =>
      call("PATCH", path, { token: await aToken(), body: JSON.stringify(body), headers: { "content-type": type } })
    const first = await patch({ quota: { cpus: 3 }, policy: { capabilities: "none" } })
    expect(first.status).toBe(200)
    const changed = Tenant.parse(await first.json())
    expect(changed.quota).toMatchObject({ containers: 2, cpus: 3 })
    expect(changed.policy).toEqual({ capabilities: "none", on_deviation: "report", vulnerable_nodes: "allow" })
    const second = Tenant.parse(await (await patch({ policy: { on_deviation: "stop" } }, "application/json")).json())
    expect(second.policy).toEqual({ capabilities: "none", on_deviation: "stop", vulnerable_nodes: "allow" })
    expect(await (await operate("GET", path)).json()).toEqual(second)
  })

  it("are changed for the object that decides as well, and by every operator who does so at once", async () => {
    const { id, token } = await aTenant()
    const changes = [{ policy: { capabilities: "none" } }, { quota: { containers: 7 } }, { policy: { on_deviation: "stop" } }]
    await Promise.all(changes.map((body) => operate("PATCH", `/v1/admin/tenants/${id}`, body)))
    const tenant = Tenant.parse(await (await operate("GET", `/v1/admin/tenants/${id}`)).json())
    expect(tenant).toMatchObject({ quota: { containers: 7 }, policy: { capabilities: "none", on_deviation: "stop" } })
    const refused = await call("POST", "/v1/containers", { token, body: { image: "a", capabilities: ["CAP_KILL"] } })
    expect(await problemOf(refused)).toMatchObject({
      status: 403,
      code: "policy_refused",
      errors: [{ pointer: "/capabilities" }],
    })
  })

  it("are not changed by what is no field of theirs, or no value of it", async () => {
    const { id } = await aTenant()
    const faults = [{ name: "x" }, { policy: { capabilities: "some" } }, { policy: { x: 1 } }, { quota: { cpus: null } }]
    for (const body of faults) expect((await operate("PATCH", `/v1/admin/tenants/${id}`, body)).status).toBe(422)
    expect((await problemOf(await operate("PATCH", `/v1/admin/tenants/${anId("ten")}`, {}))).code).toBe("not_found")
  })

  it("have names of their own", async () => {
    const name = aName()
    await operate("POST", "/v1/admin/tenants", { name })
    expect((await problemOf(await operate("POST", "/v1/admin/tenants", { name }))).code).toBe("name_taken")
  })

  it("that do not exist are not found", async () => {
    for (const id of [anId("ten"), "x"])
      expect((await problemOf(await operate("GET", `/v1/admin/tenants/${id}`))).code).toBe("not_found")
    const tokens = `/v1/admin/tenants/${anId("ten")}/tokens`
    expect((await problemOf(await operate("POST", tokens, {}))).code).toBe("not_found")
  })

  it("have their quota kept", async () => {
    const { token } = await aTenant({ containers: 1 })
    const create = () => call("POST", "/v1/containers", { token, body: { image: "a" } })
    expect((await create()).status).toBe(201)
    expect(await problemOf(await create())).toMatchObject({ status: 429, code: "quota_exceeded" })
  })
})

describe("a minted token", () => {
  it("works for its tenant, with its scopes and no others", async () => {
    const { id } = await aTenant()
    const answer = await operate("POST", `/v1/admin/tenants/${id}/tokens`, {
      scopes: ["containers:read"],
      expires_in_seconds: 60,
    })
    expect(answer.status).toBe(201)
    const minted = MintedToken.parse(await answer.json())
    expect(minted.scope).toBe("containers:read")
    expect(Date.parse(minted.expires_at) - Date.now()).toBeLessThanOrEqual(60_000)
    const token = minted.access_token
    expect((await call("GET", "/v1/containers", { token })).status).toBe(200)
    expect((await problemOf(await call("GET", "/v1/events", { token }))).code).toBe("forbidden")
    expect((await problemOf(await call("GET", "/v1/admin/tenants", { token }))).code).toBe("forbidden")
  })

  it("never carries an operator's scope", async () => {
    const { id } = await aTenant()
    const answer = await operate("POST", `/v1/admin/tenants/${id}/tokens`, { scopes: ["operator:admin"] })
    expect((await problemOf(answer)).errors[0]?.pointer).toBe("/scopes/0")
  })
})

describe("nodes", () => {
  it("are listed and read with what they say and what is reserved on them", async () => {
    const { node, id, cellId } = await anEnrolledNode({ labels: { region: "eu-9" } })
    const { token } = await aTenant()
    const resources = { cpus: 0.5 }
    const { id: container } = await (
      await call("POST", "/v1/containers", { token, body: { image: "a", resources, placement: { labels: { region: "eu-9" } } } })
    ).json<{ id: string }>()
    expect((await call("GET", `/v1/containers/${container}/wait?timeout=10`, { token })).status).toBe(200)
    const list: { items: NodeView[] } = await (await operate("GET", "/v1/admin/nodes")).json()
    const view = NodeView.parse(list.items.find((one) => one.id === id))
    expect(view).toMatchObject({ cell_id: cellId, hostname: "host-1", connected: true, accepting: true })
    expect(view.reserved.runs).toBeGreaterThanOrEqual(1)
    expect(view.reserved.cpus).toBeGreaterThanOrEqual(0.5)
    expect(view.facts?.capacity.runs).toBe(200)
    expect(view.vulnerabilities).toMatchObject([
      { component: "crun", version: "1.20", id: "CVE-2026-30892", fixed_in: "1.27" },
      {},
      {},
      {},
    ])
    node.close()
    await waitFor("the node to be away", async () => {
      const now = NodeView.parse(await (await operate("GET", `/v1/admin/nodes/${id}`)).json())
      return !now.connected && !now.accepting && now.reason?.code === "node_disconnected"
    })
  })

  it("that are forgotten are shut out for good, by connection and by key", async () => {
    const { node, id, key } = await anEnrolledNode()
    expect((await operate("DELETE", `/v1/admin/nodes/${id}`)).status).toBe(204)
    await waitFor("the session to be closed", () => node.closed?.code === 4410)
    expect((await problemOf(await operate("GET", `/v1/admin/nodes/${id}`))).code).toBe("not_found")
    const list: { items: NodeView[] } = await (await operate("GET", "/v1/admin/nodes")).json()
    expect(list.items.map((one) => one.id)).not.toContain(id)
    const again = await dial(await anAssertion(id, key), { upgrade: "websocket" })
    expect((await problemOf(again)).code).toBe("unauthenticated")
    expect((await problemOf(await enroll(await aJoinToken(), key))).code).toBe("forbidden")
    expect((await operate("DELETE", `/v1/admin/nodes/${id}`)).status).toBe(204)
  })

  it("that do not exist are not found", async () => {
    for (const method of ["GET", "DELETE"])
      expect((await problemOf(await operate(method, `/v1/admin/nodes/${anId("nod")}`))).code).toBe("not_found")
  })

  it("that never connected are shown as away", async () => {
    const { node_id } = await (await enroll(await aJoinToken(), await aHostKey())).json<{ node_id: string }>()
    const view = NodeView.parse(await (await operate("GET", `/v1/admin/nodes/${node_id}`)).json())
    expect(view).toMatchObject({ connected: false, accepting: false, last_seen_at: null, facts: null })
  })
})
