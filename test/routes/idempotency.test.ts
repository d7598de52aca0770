/** `Idempotency-Key`, kept by the tenant's object for tenants and by the directory for operators and nodes: one behaviour. */
import { env } from "cloudflare:workers"
import { beforeAll, describe, expect, it } from "vitest"
import { aTenant, call, problemOf } from "../support/api.ts"
import { aHostKey, aJoinToken, enroll } from "../support/enrolled-node.ts"
import { aToken } from "../support/tokens.ts"

type Send = (key: string, name: string) => Promise<Response>

const callers: [who: string, prepare: () => Promise<Send>][] = [
  [
    "a tenant",
    async () => {
      const { token } = await aTenant()
      return (key, name) =>
        call("POST", "/v1/containers", { token, body: { image: "a", start: false, name }, headers: { "idempotency-key": key } })
    },
  ],
  [
    "an operator",
    async () => {
      const token = await aToken({ subject: `op-${crypto.randomUUID()}` })
      return (key, name) => call("POST", "/v1/admin/tenants", { token, body: { name }, headers: { "idempotency-key": key } })
    },
  ],
  [
    "a node",
    async () => {
      const token = await aJoinToken()
      const keys = new Map([["first", await aHostKey()]])
      return async (key, name) => {
        const host = keys.get(name.startsWith("first") ? "first" : "second") ?? (await aHostKey())
        return enroll(token, host, { "idempotency-key": key })
      }
    },
  ],
]

describe.each(callers)("%s", (_, prepare) => {
  let send: Send
  let first: string
  beforeAll(async () => {
    send = await prepare()
    first = `first-${crypto.randomUUID().slice(0, 8)}`
  })

  it("gets the first answer again for the same key and call, and is told so", async () => {
    const one = await send("k-1", first)
    const two = await send("k-1", first)
    expect([one.status, two.status]).toEqual([one.ok ? one.status : 0, one.status])
    expect(await two.text()).toBe(await one.text())
    expect(two.headers.get("location")).toBe(one.headers.get("location"))
    expect([one, two].map((response) => response.headers.get("idempotency-replayed"))).toEqual([null, "true"])
  })

  it("is refused when the key comes with another call", async () => {
    expect(await problemOf(await send("k-1", "second"))).toMatchObject({ status: 422, code: "idempotency_mismatch" })
  })

  it.each(["", "with space", "ümlaut", "x".repeat(256)])("is told that %j is no key", async (key) => {
    const problem = await problemOf(await send(key, "second"))
    expect(problem).toMatchObject({ status: 422, code: "invalid_field" })
    expect(problem.errors[0]?.pointer).toBe("Idempotency-Key")
  })
})

const anOperator = () => aToken({ subject: `op-${crypto.randomUUID()}` })
const create = (by: string, name: string, key: string) =>
  call("POST", "/v1/admin/tenants", { token: by, body: { name }, headers: { "idempotency-key": key } })

describe("an operator's key", () => {
  it("makes one thing however many calls come at once", async () => {
    const by = await anOperator()
    const name = `t-${crypto.randomUUID()}`
    const answers = await Promise.all(Array.from({ length: 8 }, () => create(by, name, "k")))
    const statuses = answers.map(({ status }) => status)
    expect(statuses.filter((status) => status === 201).length).toBeGreaterThan(0)
    for (const answer of answers.filter(({ status }) => status !== 201))
      expect(await problemOf(answer)).toMatchObject({ code: "idempotency_in_progress", retryable: true })
    const again = await create(by, name, "k")
    expect(again.headers.get("idempotency-replayed")).toBe("true")
  })

  it("is his own: another operator's same key is another key", async () => {
    const names = [`t-${crypto.randomUUID()}`, `t-${crypto.randomUUID()}`]
    for (const name of names) expect((await create(await anOperator(), name, "shared")).status).toBe(201)
  })

  it("is free again after a refusal, which changed nothing", async () => {
    const by = await anOperator()
    const name = `t-${crypto.randomUUID()}`
    await create(by, name, "one")
    expect((await problemOf(await create(by, name, "two"))).code).toBe("name_taken")
    expect((await create(by, `${name.slice(0, 30)}-x`, "two")).status).toBe(201)
  })

  it("of a call that died is taken over, and finds what that call had made", async () => {
    const by = await anOperator()
    const name = `t-${crypto.randomUUID()}`
    const made = await (await create(by, name, "k")).json<{ id: string }>()
    // As it is left by a call that died after its change and before its answer was kept.
    const long = Date.now() - 120_000
    await env.DIRECTORY.prepare("update idempotency_keys set answer = null, started_at_ms = ? where answer is not null")
      .bind(long)
      .run()
    const again = await create(by, name, "k")
    expect(again.status).toBe(201)
    expect(await again.json()).toMatchObject({ id: made.id })
    expect(again.headers.get("idempotency-replayed")).toBeNull()
  })

  it("keeps no secret that can be read in the directory", async () => {
    const by = await anOperator()
    const answer = await call("POST", "/v1/admin/join-tokens", { token: by, headers: { "idempotency-key": "secret" } })
    const { join_token } = await answer.json<{ join_token: string }>()
    const again = await call("POST", "/v1/admin/join-tokens", { token: by, headers: { "idempotency-key": "secret" } })
    expect(await again.json()).toMatchObject({ join_token })
    for (const table of ["idempotency_keys", "join_tokens"]) {
      const rows = await env.DIRECTORY.prepare(`select * from ${table}`).all()
      expect(rows.results.length).toBeGreaterThan(0)
      expect(JSON.stringify(rows.results)).not.toContain(join_token)
    }
  })
})
