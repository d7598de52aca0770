import { describe, expect, it } from "vitest"
import { AuditPage, hashedText } from "../../schema/audit.ts"
import { aCreatedContainer, aTenant, call } from "../support/api.ts"
import { aToken } from "../support/tokens.ts"

async function auditOf(token: string, path = "/v1/audit"): Promise<AuditPage> {
  return AuditPage.parse(await (await call("GET", path, { token })).json())
}

async function sha256(text: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)))
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("")
}

async function expectChained({ items }: AuditPage): Promise<void> {
  for (const [i, entry] of items.entries()) {
    expect(entry.hash).toBe(await sha256(hashedText(entry)))
    if (i > 0) expect(entry).toMatchObject({ previous: items[i - 1]?.hash, seq: (items[i - 1]?.seq ?? 0) + 1 })
  }
}

describe("a tenant's audit log", () => {
  it("tells who changed what by which call, and what came of it, once for a repeated one", async () => {
    const { token } = await aTenant()
    const { id } = await aCreatedContainer(token, { name: "web" })
    const again = { token, headers: { "idempotency-key": "k" } }
    for (const _ of [1, 2]) await call("DELETE", `/v1/containers/${id}`, again)
    await call("POST", "/v1/containers/nobody/start", { token })
    const log = await auditOf(token)
    expect(log.items.map(({ operation, target, result, subject }) => [operation, target, result, subject])).toEqual([
      ["createContainer", id, "ok", "tester"],
      ["removeContainer", id, "ok", "tester"],
      ["startContainer", "nobody", "not_found", "tester"],
    ])
    expect(log.items[0]?.token_id).toMatch(/^tok_/)
    await expectChained(log)
  })

  it("tells of calls that were denied, for want of a scope or because the token was revoked", async () => {
    const tenant = await aTenant()
    const narrow = await aToken({ tenant: tenant.id, scopes: ["logs:read"], subject: "intruder" })
    expect((await call("GET", "/v1/containers", { token: narrow })).status).toBe(403)
    expect((await call("POST", "/v1/admin/tenants", { token: tenant.token, body: { name: "mine" } })).status).toBe(403)
    const log = await auditOf(tenant.token)
    expect(log.items.map(({ operation, target, result, subject }) => [operation, target, result, subject])).toEqual([
      ["listContainers", "/v1/containers", "forbidden", "intruder"],
      ["createTenant", "/v1/admin/tenants", "forbidden", "tester"],
    ])
  })

  it("has a call that is not one transaction before it begins, and how it ended", async () => {
    const { token } = await aTenant()
    const body = { registry: "registry.example", username: "ci", password: "hunter2" }
    const made = (await (await call("POST", "/v1/registry-credentials", { token, body })).json()) as { id: string }
    const log = await auditOf(token)
    expect(log.items.map(({ operation, target, result }) => [operation, target, result])).toEqual([
      ["createRegistryCredential", null, "begun"],
      ["createRegistryCredential", made.id, "ok"],
    ])
    expect(new Set(log.items.map(({ request_id }) => request_id)).size).toBe(1)
    expect(JSON.stringify(log)).not.toContain("hunter2")
  })

  it("is read page by page, and for nobody but the tenant's administrators", async () => {
    const tenant = await aTenant()
    for (const name of ["a", "b", "c"]) await aCreatedContainer(tenant.token, { name })
    const first = await auditOf(tenant.token, "/v1/audit?limit=2")
    expect(first.items.map(({ seq }) => seq)).toEqual([1, 2])
    const rest = await auditOf(tenant.token, `/v1/audit?after=${first.next_cursor}`)
    expect(rest).toMatchObject({ items: [{ seq: 3 }], next_cursor: null })
    await expectChained({ ...first, items: [...first.items, ...rest.items] })
    const narrow = await aToken({ tenant: tenant.id, scopes: ["containers:read"] })
    expect((await call("GET", "/v1/audit", { token: narrow })).status).toBe(403)
  })
})

describe("the operators' audit log", () => {
  it("holds their calls, those at the same instant too, in one unbroken chain", async () => {
    const token = await aToken({ subject: `op-${crypto.randomUUID()}` })
    const names = Array.from({ length: 5 }, () => `t-${crypto.randomUUID()}`)
    await Promise.all(names.map((name) => call("POST", "/v1/admin/tenants", { token, body: { name } })))
    const log = await auditOf(token, "/v1/admin/audit")
    await expectChained(log)
    const subject = log.items.at(-1)?.subject
    const mine = log.items.filter((entry) => entry.subject === subject && entry.operation === "createTenant")
    expect(mine.filter(({ result }) => result === "begun")).toHaveLength(5)
    expect(mine.filter(({ result, target }) => result === "ok" && target?.startsWith("ten_"))).toHaveLength(5)
  })
})
