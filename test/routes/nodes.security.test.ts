/** How hosts get in, and who does not. */
import { evictDurableObject, runInDurableObject } from "cloudflare:test"
import { env } from "cloudflare:workers"
import { beforeAll, describe, expect, it } from "vitest"
import { SUBPROTOCOL } from "../../schema/protocol.ts"
import { call, problemOf } from "../support/api.ts"
import type { AssertionOptions, HostKey } from "../support/enrolled-node.ts"
import { aHostKey, aJoinToken, anAssertion, anEnrolledNode, dial, enroll } from "../support/enrolled-node.ts"
import { anId } from "../support/factories.ts"
import { FakeNode } from "../support/fake-node.ts"
import { aToken } from "../support/tokens.ts"

const nodeIdOf = async (response: Response) => (await response.json<{ node_id: string }>()).node_id

describe("enrolling", () => {
  it("gives the same node for the same key and token, as often as it is asked", async () => {
    const [token, key] = [await aJoinToken(), await aHostKey()]
    const first = await enroll(token, key)
    expect(first.status).toBe(200)
    expect(await nodeIdOf(await enroll(token, key))).toBe(await nodeIdOf(first))
  })

  it("uses a token up: of many hosts at once one gets in", async () => {
    const token = await aJoinToken()
    const answers = await Promise.all(Array.from({ length: 6 }, async () => enroll(token, await aHostKey())))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    for (const answer of answers.filter(({ status }) => status !== 200)) expect((await problemOf(answer)).code).toBe("forbidden")
  })

  it("refuses a token that is unknown or has expired", async () => {
    expect((await problemOf(await enroll("berth-join-nothing", await aHostKey()))).code).toBe("forbidden")
    const token = await aJoinToken()
    await env.DIRECTORY.prepare("update join_tokens set expires_at_ms = 1 where node_id is null").run()
    expect((await problemOf(await enroll(token, await aHostKey()))).detail).toContain("expired")
  })

  it("refuses a key that is another node's", async () => {
    const { key } = await anEnrolledNode({ silent: true })
    expect((await problemOf(await enroll(await aJoinToken(), key))).detail).toContain("already enrolled")
  })

  it("refuses a private key, by name", async () => {
    const { jwk, publicKey } = await aHostKey()
    const body = { join_token: await aJoinToken(), public_key: { ...publicKey, d: jwk.d }, hostname: "h" }
    expect((await problemOf(await call("POST", "/v1/nodes/enroll", { body }))).errors[0]?.pointer).toBe("/public_key/d")
  })
})

describe("connecting", () => {
  let id: string
  let key: HostKey
  beforeAll(async () => {
    key = await aHostKey()
    id = await nodeIdOf(await enroll(await aJoinToken(), key))
  })
  const upgrade = { upgrade: "websocket", "sec-websocket-protocol": SUBPROTOCOL }

  it("answers the upgrade with the protocol and a request id", async () => {
    const response = await dial(await anAssertion(id, key), upgrade)
    expect([response.status, response.headers.get("sec-websocket-protocol")]).toEqual([101, SUBPROTOCOL])
    expect(response.headers.get("x-request-id")).toMatch(/^req_/)
    response.webSocket?.accept()
    response.webSocket?.close()
  })

  const wrong: [what: string, options: AssertionOptions][] = [
    ["another audience", { aud: "https://elsewhere.test" }],
    ["an access token's type", { typ: "at+jwt" }],
    ["another issuer than its key", { iss: anId("nod") }],
    ["another subject than its key", { sub: anId("nod") }],
    ["the key id of a node that does not exist", { kid: anId("nod") }],
    ["a key id that is no node's", { kid: "platform" }],
    ["a validity of an hour", { expiresIn: 3600 }],
  ]
  it.each(wrong)("refuses an assertion with %s", async (_, options) => {
    const response = await dial(await anAssertion(id, key, options), upgrade)
    expect((await problemOf(response)).code).toBe("unauthenticated")
  })

  it("refuses an expired assertion, another key's, a tenant's and an operator's token, and none", async () => {
    const expired = await dial(await anAssertion(id, key, { expiresIn: -30 }), upgrade)
    expect((await problemOf(expired)).code).toBe("token_expired")
    for (const token of [await anAssertion(id, await aHostKey()), await aToken({ tenant: anId("ten") }), await aToken()])
      expect((await problemOf(await dial(token, upgrade))).code).toBe("unauthenticated")
    expect((await problemOf(await call("GET", "/v1/nodes/connect", { headers: upgrade }))).code).toBe("unauthenticated")
  })

  it("takes an assertion once: whoever has read it cannot replay it, and the session that it began goes on", async () => {
    const assertion = await anAssertion(id, key)
    const node = await FakeNode.connect({ namespace: env.NODE, cellId: anId("cel"), dial: () => dial(assertion, upgrade) })
    for (const _ of [1, 2]) {
      const problem = await problemOf(await dial(assertion, upgrade))
      expect([problem.code, problem.detail]).toEqual(["unauthenticated", expect.stringContaining("began a session before")])
    }
    expect(node.closed).toBeNull()
    const object = env.NODE.get(env.NODE.idFromName(id))
    await evictDurableObject(object)
    expect((await problemOf(await dial(assertion, upgrade))).code).toBe("unauthenticated")
    const other = await dial(await anAssertion(id, key), upgrade)
    expect(other.status).toBe(101)
    other.webSocket?.accept()
    other.webSocket?.close()
  })

  it("forgets assertions that have expired, and takes only so many that have not", async () => {
    const object = env.NODE.get(env.NODE.idFromName(id))
    const keep = (count: number, expires: number) =>
      runInDurableObject(object, (_, { storage }) => {
        storage.sql.exec("delete from assertions")
        for (let i = 0; i < count; i++) storage.sql.exec("insert into assertions values (?, ?)", `a${expires}-${i}`, expires)
      })
    await keep(300, Date.now() + 60_000)
    const refused = await problemOf(await dial(await anAssertion(id, key), upgrade))
    expect([refused.status, refused.code]).toEqual([503, "unavailable"])
    await keep(300, Date.now() - 1)
    const taken = await dial(await anAssertion(id, key), upgrade)
    expect(taken.status).toBe(101)
    taken.webSocket?.accept()
    taken.webSocket?.close()
    const kept = await runInDurableObject(
      object,
      (_, { storage }) => storage.sql.exec("select * from assertions").toArray().length,
    )
    expect(kept).toBe(1)
  })

  it("refuses one node the assertion of another, whatever it claims beside it", async () => {
    const other = await anEnrolledNode()
    const stolen = await anAssertion(other.id, key)
    expect((await problemOf(await dial(stolen, upgrade))).code).toBe("unauthenticated")
    const own = await anAssertion(id, key, { iss: other.id, sub: other.id })
    expect((await problemOf(await dial(own, upgrade))).code).toBe("unauthenticated")
    expect(other.node.closed).toBeNull()
  })

  it("takes the node's id from the assertion and from nowhere else", async () => {
    const victim = await anEnrolledNode()
    const claims = { "x-berth-node-id": victim.id, "x-berth-cell-id": anId("cel"), "x-berth-node-labels": '{"region":"mine"}' }
    const assertion = await anAssertion(id, key)
    const node = await FakeNode.connect({
      namespace: env.NODE,
      cellId: victim.cellId,
      dial: () => dial(assertion, { ...upgrade, ...claims }),
    })
    expect(node.received.find((message) => message.type === "welcome")).toMatchObject({ node_id: id })
    expect(victim.node.closed).toBeNull()
    const view = await call("GET", `/v1/admin/nodes/${id}`, { token: await aToken() })
    expect(await view.json()).toMatchObject({ connected: true, cell_id: victim.cellId })
    node.close()
  })

  it("carries the operator's labels whole, in whatever script", async () => {
    const labels = { region: "東京-ß", note: 'a "quoted"\nline' }
    const { id: node } = await anEnrolledNode({ labels })
    const told = await runInDurableObject(env.NODE.get(env.NODE.idFromName(node)), (_, { storage }) =>
      storage.sql.exec<{ operator_labels: string }>("select operator_labels from node").one(),
    )
    expect(JSON.parse(told.operator_labels)).toEqual(labels)
  })

  it("refuses what is no upgrade, and a protocol that it does not speak", async () => {
    expect((await problemOf(await dial(await anAssertion(id, key), {}))).code).toBe("bad_request")
    const old = await dial(await anAssertion(id, key), { ...upgrade, "sec-websocket-protocol": "berth.node.v0" })
    expect((await problemOf(old)).detail).toContain(SUBPROTOCOL)
  })
})
