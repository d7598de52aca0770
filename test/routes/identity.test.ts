/** A container's identity as its node asks for it, and as anybody else verifies it. */
import { createLocalJWKSet, jwtVerify } from "jose"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { aTenant, call, problemOf, type TestTenant } from "../support/api.ts"
import { anAssertion, anEnrolledNode } from "../support/enrolled-node.ts"
import { anId } from "../support/factories.ts"
import { TEST_ISSUER } from "../support/signing-key.ts"
import { aToken } from "../support/tokens.ts"

let tenant: TestTenant
type Enrolled = Awaited<ReturnType<typeof anEnrolledNode>>
let enrolled: Enrolled
const nodes: Enrolled[] = []
async function aNode(region: string): Promise<Enrolled> {
  const made = await anEnrolledNode({ labels: { region } })
  nodes.push(made)
  return made
}
beforeAll(async () => {
  tenant = await aTenant()
  enrolled = await aNode("identity")
})
// Other files' containers are not for these nodes.
afterAll(async () => {
  for (const { id } of nodes) await call("DELETE", `/v1/admin/nodes/${id}`, { token: await aToken() })
})

async function aRun(fields: object = {}) {
  const body = {
    image: "registry.example/app:1",
    labels: { app: "web" },
    placement: { labels: { region: "identity" } },
    identity: true,
    ...fields,
  }
  const { id } = await (await call("POST", "/v1/containers", { token: tenant.token, body })).json<{ id: string }>()
  const answer = await call("GET", `/v1/containers/${id}/wait?timeout=10`, { token: tenant.token })
  const { run, name } = await answer.json<{ name: string | null; run: { id: string; image_digest: string } }>()
  return { id, name, run }
}
const ask = async (run_id: string, over: Record<string, unknown> = {}, by = enrolled) =>
  call("POST", "/v1/nodes/identity", {
    token: await anAssertion(by.id, by.key),
    body: { tenant_id: tenant.id, run_id, audience: "https://vault.example", ...over },
  })

const refused = async (response: Response) => expect((await problemOf(response)).code).toBe("not_found")

describe("a container's identity", () => {
  it("says what it is, for ten minutes, and is verified by what the platform publishes", async () => {
    const { id, run } = await aRun({ name: "web-1" })
    const { token, expires_at } = await (await ask(run.id)).json<{ token: string; expires_at: string }>()
    const provider = await (await call("GET", "/.well-known/openid-configuration")).json<{ issuer: string; jwks_uri: string }>()
    expect(provider.issuer).toBe(TEST_ISSUER)
    const keys = createLocalJWKSet(await (await call("GET", new URL(provider.jwks_uri).pathname)).json())
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      issuer: provider.issuer,
      audience: "https://vault.example",
    })
    expect(protectedHeader.typ).toBe("JWT")
    expect(payload).toMatchObject({
      sub: `${tenant.id}:web-1`, tenant_id: tenant.id, container_id: id, container_name: "web-1", run_id: run.id,
      image: "registry.example/app:1", image_digest: run.image_digest, labels: { app: "web" },
    }) // prettier-ignore
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(600)
    expect(Date.parse(expires_at)).toBeGreaterThan(Date.now() + 590_000)
  })

  it("opens nothing here", async () => {
    const { run } = await aRun()
    const { token } = await (await ask(run.id)).json<{ token: string }>()
    expect((await problemOf(await call("GET", "/v1/containers", { token }))).code).toBe("unauthenticated")
    const own = await problemOf(await ask(run.id, { audience: TEST_ISSUER }))
    expect([own.code, own.errors[0]?.pointer]).toEqual(["invalid_field", "/audience"])
  })

  it("is nobody's who did not ask for one, whose run has ended, or is another's", async () => {
    await refused(await ask((await aRun({ identity: false })).run.id))
    await refused(await ask(anId("run")))
    const { id, run } = await aRun()
    await refused(await ask(run.id, { tenant_id: (await aTenant()).id }))
    const other = await aNode("elsewhere")
    await refused(await ask(run.id, {}, other))
    await call("POST", `/v1/containers/${id}/kill`, { token: tenant.token, body: {} })
    await call("GET", `/v1/containers/${id}/wait?status=exited&timeout=10`, { token: tenant.token })
    await refused(await ask(run.id))
  })

  it("needs the node's own assertion", async () => {
    const { run } = await aRun()
    for (const token of [tenant.token, "garbage", await anAssertion(enrolled.id, (await aNode("third")).key)])
      expect(
        (await call("POST", "/v1/nodes/identity", { token, body: { tenant_id: tenant.id, run_id: run.id, audience: "a" } }))
          .status,
      ).toBe(401)
  })

  it("cannot be asked of the sandboxed profile", async () => {
    const body = { image: "a", profile: "sandboxed", identity: true, network: { egress: "none" } }
    expect((await problemOf(await call("POST", "/v1/containers", { token: tenant.token, body }))).errors).toMatchObject([
      { pointer: "/identity" },
    ])
  })
})
