/** Tokens made from tokens: what they may do, what they see, and how they end. */
import { runInDurableObject } from "cloudflare:test"
import { beforeAll, describe, expect, it } from "vitest"
import type { z } from "zod"
import type { Container, Event } from "../../schema/api.ts"
import { MintedToken, Token, type TokenCreate } from "../../schema/tokens.ts"
import { aCreatedContainer, aTenant, call, problemOf, type TestTenant } from "../support/api.ts"
import { stubs } from "../support/control-plane.ts"
import { anId } from "../support/factories.ts"
import { aToken } from "../support/tokens.ts"
import { waitFor } from "../support/wait-for.ts"

type Ask = Partial<z.input<typeof TokenCreate>>
let tenant: TestTenant
beforeAll(async () => {
  tenant = await aTenant()
})

const mint = (ask: Ask, by = tenant.token, headers: Record<string, string> = {}) =>
  call("POST", "/v1/tokens", { token: by, body: { name: "ci", scopes: ["containers:read"], ...ask }, headers })
async function minted(ask: Ask = {}, by = tenant.token): Promise<MintedToken> {
  const answer = await mint(ask, by)
  if (answer.status !== 201) throw new Error(`no token was minted: ${await answer.text()}`)
  return MintedToken.parse(await answer.json())
}
const about = (fields: object) => [{ type: "container" as const, ...fields }]
const get = (path: string, token: string) => call("GET", path, { token })
const removeSame = (token: string) => call("DELETE", "/v1/containers/same-1", { token, headers: { "idempotency-key": "d" } })
const ALL = [
  "containers:read",
  "containers:create",
  "containers:control",
  "containers:delete",
  "events:read",
  "logs:read",
] as const

describe("a minted token", () => {
  it("is shown once, and does what its scopes say until it expires", async () => {
    const answer = await mint({ name: "deploy", expires_in_seconds: 300 })
    const token = MintedToken.parse(await answer.json())
    expect(answer.headers.get("location")).toBe(`/v1/tokens/${token.id}`)
    expect(token).toMatchObject({ token_type: "Bearer", scope: "containers:read", authorization_details: null })
    expect(Math.abs(Date.parse(token.expires_at) - Date.now() - 300_000)).toBeLessThan(10_000)
    expect((await get("/v1/containers", token.access_token)).status).toBe(200)
    expect((await problemOf(await get("/v1/events", token.access_token))).code).toBe("forbidden")
    const view = Token.parse(await (await get(`/v1/tokens/${token.id}`, tenant.token)).json())
    expect(view).toMatchObject({ name: "deploy", status: "active", scopes: ["containers:read"], revoked_at: null })
    expect(JSON.stringify(view)).not.toContain(token.access_token.split(".")[2])
  })

  it("is nowhere in the database", async () => {
    const token = await minted()
    const signature = token.access_token.split(".")[2] ?? ""
    const everything = await runInDurableObject(stubs.tenant(tenant.id), (_, state) =>
      JSON.stringify([...state.storage.sql.exec("select * from tokens")]),
    )
    expect(everything).toContain(token.id)
    expect(everything).not.toContain(signature)
  })

  it("is made once for one Idempotency-Key, and shown again to the token that asked alone", async () => {
    const headers = { "idempotency-key": "mint-1" }
    const [one, two] = [await mint({}, tenant.token, headers), await mint({}, tenant.token, headers)]
    expect(two.headers.get("idempotency-replayed")).toBe("true")
    expect(await two.text()).toBe(await one.text())
    const sameName = await aToken({ tenant: tenant.id })
    expect((await mint({}, sameName, headers)).headers.get("idempotency-replayed")).toBeNull()
  })

  it("says when it was last used, to the hour", async () => {
    const token = await minted()
    const last = async () => Token.parse(await (await get(`/v1/tokens/${token.id}`, tenant.token)).json()).last_used_at
    expect(await last()).toBeNull()
    await get("/v1/containers", token.access_token)
    const first = await last()
    expect(Date.now() - Date.parse(first ?? "")).toBeLessThan(60_000)
    await get("/v1/containers", token.access_token)
    expect(await last()).toBe(first)
  })

  it("has a day when nothing is asked for, or what is left to the token it comes from", async () => {
    expect(Math.abs(Date.parse((await minted({}, await aToken({ tenant: tenant.id, expiresIn: 200_000 }))).expires_at) - Date.now() - 86_400_000)).toBeLessThan(10_000) // prettier-ignore
    const short = await aToken({ tenant: tenant.id, expiresIn: 300 })
    expect(Date.parse((await minted({}, short)).expires_at) - Date.now()).toBeLessThanOrEqual(300_000)
  })

  const refusals: [what: string, ask: Ask, by: () => Promise<string>, status: number, pointer: string][] = [
    ["a scope that its maker lacks", { scopes: ["containers:read", "logs:read"] }, () => aToken({ tenant: tenant.id, scopes: ["tokens:mint", "containers:read"] }), 403, "/scopes/1"],
    ["a scope that nothing needs yet", { scopes: ["advisor:read"] }, async () => tenant.token, 422, "/scopes/0"],
    ["a scope that there is not", { scopes: ["containers:*" as never] }, async () => tenant.token, 422, "/scopes/0"],
    ["an operator's scope", { scopes: ["operator:admin" as never] }, async () => tenant.token, 422, "/scopes/0"],
    ["more time than its maker has", { expires_in_seconds: 3600 }, () => aToken({ tenant: tenant.id, expiresIn: 600 }), 422, "/expires_in_seconds"],
    ["more than 90 days", { expires_in_seconds: 90 * 86_400 + 1 }, async () => tenant.token, 422, "/expires_in_seconds"],
    ["details of a type that there is not", { authorization_details: [{ type: "bucket" as never }] }, async () => tenant.token, 422, "/authorization_details/0/type"],
    ["a condition that there is not", { authorization_details: about({ exec_prefixes: [["ls"]] }) }, async () => tenant.token, 422, "/authorization_details/0/exec_prefixes"],
    ["what is not about containers, for some containers", { scopes: ["webhooks:write"], authorization_details: about({ name_prefix: "a" }) }, async () => tenant.token, 422, "/scopes/0"],
  ] // prettier-ignore
  it.each(refusals)("cannot have %s", async (_, ask, by, status, pointer) => {
    const problem = await problemOf(await mint(ask, await by()))
    expect([problem.status, problem.errors[0]?.pointer]).toEqual([status, pointer])
  })

  it("passes on no more than it has, from token to token, and not without end", async () => {
    const first = await minted({ scopes: ["tokens:mint", "containers:read"], authorization_details: about({ name_prefix: "a" }) })
    const second = await minted(
      { scopes: ["tokens:mint"], authorization_details: about({ labels: { x: "1" } }) },
      first.access_token,
    )
    expect(second.authorization_details).toEqual(about({ name_prefix: "a", labels: { x: "1" } }))
    const none = await mint({ authorization_details: about({ name_prefix: "b" }) }, first.access_token)
    expect(await problemOf(none)).toMatchObject({ status: 403, errors: [{ pointer: "/authorization_details" }] })
    let by = second.access_token
    for (let depth = 3; depth <= 8; depth++) by = (await minted({ scopes: ["tokens:mint"] }, by)).access_token
    expect((await problemOf(await mint({ scopes: ["tokens:mint"] }, by))).code).toBe("forbidden")
  })
})

describe("a token for some containers", () => {
  it("sees those and no others, under any of their names", async () => {
    const owner = await aTenant()
    const [mine, theirs] = [
      await aCreatedContainer(owner.token, { name: "web-1", labels: { app: "web" } }),
      await aCreatedContainer(owner.token, { name: "db", labels: { app: "db" } }),
    ]
    const { access_token: token } = await minted(
      { scopes: [...ALL], authorization_details: about({ labels: { app: "web" } }) },
      owner.token,
    )
    expect((await get("/v1/containers/web-1", token)).status).toBe(200)
    const unknown = await problemOf(await get("/v1/containers/no-such", token))
    for (const ref of ["db", theirs.id]) {
      for (const [method, path] of [["GET", ""], ["GET", "/wait"], ["GET", "/logs"], ["GET", "/isolation"], ["POST", "/start"], ["DELETE", ""]]) {
        const problem = await problemOf(await call(method ?? "", `/v1/containers/${ref}${path}`, { token }))
        expect([problem.code, problem.detail]).toEqual(["not_found", unknown.detail.replace("no-such", ref)])
      }
    } // prettier-ignore
    const list = await (await get("/v1/containers", token)).json<{ items: Container[]; next_cursor: string | null }>()
    expect(list).toEqual({ items: [expect.objectContaining({ id: mine.id })], next_cursor: null })
    expect((await get("/v1/containers/db", owner.token)).status).toBe(200)
  })

  it("pages through what it sees as if there were nothing else", async () => {
    const owner = await aTenant()
    const wanted: string[] = []
    for (let i = 0; i < 9; i++) {
      const { id } = await aCreatedContainer(owner.token, { labels: { n: String(i % 3) } })
      if (i % 3 === 1) wanted.push(id)
    }
    const { access_token: token } = await minted(
      { scopes: [...ALL], authorization_details: about({ labels: { n: "1" } }) },
      owner.token,
    )
    for (const path of ["/v1/containers?limit=1", "/v1/events?limit=1"]) {
      const seen: string[] = []
      let cursor: string | null = null
      do {
        const after: string = cursor === null ? "" : `&${path.includes("events") ? "after" : "cursor"}=${cursor}`
        const { items, next_cursor } = await (await get(path + after, token)).json<{ items: (Container & Event)[]; next_cursor: string | null }>()
        seen.push(...items.map((item) => (path.includes("events") ? item.container_id : item.id) ?? ""))
        cursor = next_cursor
      } while (cursor !== null) // prettier-ignore
      expect(seen).toEqual(wanted)
    }
  })

  it("can create those alone, and is told which field goes beyond", async () => {
    const details = about({ name_prefix: "ci-", images: ["registry.example/app"], max_resources: { cpus: 1 } })
    const { access_token: token } = await minted({ scopes: [...ALL], authorization_details: details })
    const create = (body: object, path = "/v1/containers") => call("POST", path, { token, body })
    const good = { name: "ci-1", image: "registry.example/app:2", start: false }
    expect((await create(good)).status).toBe(201)
    const problem = await problemOf(await create({ image: "registry.example/other:1", name: "web", resources: { cpus: 2 } }))
    expect(problem).toMatchObject({ status: 403, code: "forbidden" })
    expect(problem.errors.map(({ pointer }) => pointer)).toEqual(["/name", "/image", "/resources/cpus"])
    const dryRun = await problemOf(await create({ ...good, name: "web" }, "/v1/containers?dry_run=true"))
    expect(dryRun.errors).toMatchObject([{ pointer: "/name" }])
    const batch = await problemOf(await create({ count: 2, container: { ...good, name: "web" } }, "/v1/containers:batch"))
    expect(batch.errors).toMatchObject([{ pointer: "/container/name" }])
    expect((await create({ count: 2, container: { ...good, name: "ci-2" } }, "/v1/containers:batch")).status).toBe(201)
  })

  it("is not shown the answer that another token of its name was given", async () => {
    const headers = { "idempotency-key": "k" }
    const body = { image: "a", start: false }
    const wide = await minted({ name: "same", scopes: [...ALL] })
    expect((await call("POST", "/v1/containers", { token: wide.access_token, body, headers })).status).toBe(201)
    const narrow = await minted({ name: "same", scopes: [...ALL], authorization_details: about({ max_resources: { cpus: 1 }, labels: { x: "y" } }) })
    const again = await call("POST", "/v1/containers", { token: narrow.access_token, body, headers })
    expect((await problemOf(again)).code).toBe("not_found")
    await aCreatedContainer(tenant.token, { name: "same-1" })
    expect((await removeSame(wide.access_token)).status).toBe(200)
    expect((await problemOf(await removeSame(narrow.access_token))).code).toBe("not_found")
  }) // prettier-ignore

  it("follows the events of those alone, until it is revoked", async () => {
    const owner = await aTenant()
    const token = await minted({ scopes: ["events:read"], authorization_details: about({ name_prefix: "mine" }) }, owner.token)
    const stream = await get("/v1/events?follow=true", token.access_token)
    const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader()
    let text = ""
    let ended = false
    void (async () => {
      for (;;) {
        const chunk = await reader?.read().catch(() => undefined)
        if (!chunk || chunk.done) break
        text += chunk.value
      }
      ended = true
    })()
    await aCreatedContainer(owner.token, { name: "theirs" })
    await aCreatedContainer(owner.token, { name: "mine-1" })
    await waitFor("its own container's event", () => text.includes("mine-1"))
    expect(text).not.toContain("theirs")
    await call("DELETE", `/v1/tokens/${token.id}`, { token: owner.token })
    await aCreatedContainer(owner.token, { name: "mine-2" })
    await waitFor("the stream's end", () => ended)
    expect(text).not.toContain("mine-2")
  })
})

describe("a revoked token", () => {
  it("is refused from the next call on, with all that was made from it", async () => {
    const parent = await minted({ scopes: ["tokens:mint", "containers:read"] })
    const child = await minted({}, parent.access_token)
    const other = await minted()
    expect((await get("/v1/containers", child.access_token)).status).toBe(200)
    const revoke = await call("DELETE", `/v1/tokens/${parent.id}`, { token: tenant.token })
    expect([revoke.status, await revoke.text()]).toEqual([204, ""])
    for (const { access_token } of [parent, child]) {
      const answer = await get("/v1/containers", access_token)
      expect(answer.headers.get("www-authenticate")).toContain('error="invalid_token"')
      expect(await problemOf(answer)).toMatchObject({ code: "unauthenticated", detail: expect.stringContaining("revoked") })
    }
    expect((await mint({}, parent.access_token)).status).toBe(401)
    expect((await get("/v1/containers", other.access_token)).status).toBe(200)
    const views = await Promise.all([parent, child].map(async ({ id }) => Token.parse(await (await get(`/v1/tokens/${id}`, tenant.token)).json())))
    expect(views.map(({ status }) => status)).toEqual(["revoked", "revoked"])
    expect((await call("DELETE", `/v1/tokens/${parent.id}`, { token: tenant.token })).status).toBe(204)
  }) // prettier-ignore

  it("stays revoked when its tenant's object starts anew", async () => {
    const token = await minted()
    await call("DELETE", `/v1/tokens/${token.id}`, { token: tenant.token })
    await runInDurableObject(stubs.tenant(tenant.id), (_, state) => state.abort("a restart")).catch(() => {})
    expect((await get("/v1/containers", token.access_token)).status).toBe(401)
    expect((await get("/v1/containers", tenant.token)).status).toBe(200)
  })
})

describe("tokens are seen", () => {
  it("by those that they were made from, and by an administrator's", async () => {
    const owner = await aTenant()
    const parent = await minted({ name: "parent", scopes: ["tokens:mint", "containers:read"] }, owner.token)
    const child = await minted({ name: "child" }, parent.access_token)
    await minted({ name: "other" }, owner.token)
    const names = async (token: string) => {
      const seen: string[] = []
      for (let cursor: string | null = ""; cursor !== null;) {
        const path = `/v1/tokens?limit=1${cursor === "" ? "" : `&cursor=${cursor}`}`
        const page: { items: Token[]; next_cursor: string | null } = await (await get(path, token)).json()
        seen.push(...page.items.map(({ name }) => name))
        cursor = page.next_cursor
      }
      return seen
    }
    expect(await names(parent.access_token)).toEqual(["parent", "child"])
    expect(await names(owner.token)).toEqual(["parent", "child", "other"])
    const path = `/v1/tokens/${parent.id}`
    const minting = await minted({ scopes: ["tokens:mint"] }, owner.token)
    expect((await problemOf(await get(path, minting.access_token))).code).toBe("not_found")
    expect((await problemOf(await call("DELETE", path, { token: minting.access_token }))).code).toBe("not_found")
    expect(Token.parse(await (await get(`/v1/tokens/${child.id}`, parent.access_token)).json()).parent).toBe(parent.id)
    expect((await problemOf(await get(`/v1/tokens/${anId("tok")}`, owner.token))).code).toBe("not_found")
    expect((await problemOf(await get(path, tenant.token))).code).toBe("not_found")
  })

  it("when an operator minted them as well", async () => {
    const operator = await aToken()
    const answer = await call("POST", `/v1/admin/tenants/${tenant.id}/tokens`, {
      token: operator,
      body: { subject: "by-operator" },
    })
    const token = MintedToken.parse(await answer.json())
    expect(token.scope.split(" ")).toContain("tenant:admin")
    expect(token.scope.split(" ")).not.toContain("advisor:read")
    expect(Token.parse(await (await get(`/v1/tokens/${token.id}`, tenant.token)).json())).toMatchObject({ parent: null })
    await call("DELETE", `/v1/tokens/${token.id}`, { token: tenant.token })
    expect((await get("/v1/containers", token.access_token)).status).toBe(401)
  })
})
