import { env } from "cloudflare:workers"
import { describe, expect, it } from "vitest"
import { newApp } from "../../worker/app.ts"
import { servicesOf } from "../../worker/env.ts"
import { call, problemOf } from "../support/api.ts"
import { TEST_ISSUER, TEST_SIGNING_KEY } from "../support/signing-key.ts"
import { aToken } from "../support/tokens.ts"

describe("what anyone may read", () => {
  it("says that the platform is up", async () => {
    expect(await (await call("GET", "/healthz")).json()).toEqual({ status: "ok" })
  })

  it("has the public keys and no private part, for five minutes", async () => {
    const response = await call("GET", "/.well-known/jwks.json")
    const text = await response.text()
    expect(JSON.parse(text).keys).toContainEqual({
      kty: "OKP",
      crv: "Ed25519",
      alg: "EdDSA",
      use: "sig",
      kid: TEST_SIGNING_KEY.kid,
      x: TEST_SIGNING_KEY.x,
    })
    expect(text).not.toContain(TEST_SIGNING_KEY.d)
    expect(response.headers.get("cache-control")).toBe("public, max-age=300")
  })

  it("describes the API where it is served, and leads there from the root", async () => {
    const document = await (await call("GET", "/openapi.json")).json<{ openapi: string; servers: unknown }>()
    expect(document).toMatchObject({ openapi: "3.1.0", servers: [{ url: TEST_ISSUER }] })
    const root = await call("GET", "/")
    expect([root.status, root.headers.get("location")]).toEqual([302, "/docs"])
    expect((await call("GET", "/docs")).headers.get("content-type")).toBe("text/html; charset=utf-8")
  })
})

/** Asks a platform whose tenants' objects fail in this way. */
async function ask(fault: Error): Promise<Response> {
  const real = servicesOf(env)
  const tenant = () => ({ getContainerJson: () => Promise.reject(fault) })
  const app = newApp(() => ({ ...real, peers: { ...real.peers, tenant } as never }))
  const headers = { authorization: `Bearer ${await aToken({ tenant: "ten_01kaz3v8q0f1x8t1m5y7c2d9e4" as never })}` }
  return app.request("/v1/containers/x", { headers }, env)
}

describe("a fault of ours", () => {
  it("is answered without detail, with the id under which it was logged", async () => {
    const problem = await problemOf(await ask(new Error("the secret is 42")))
    expect(problem).toMatchObject({ status: 500, code: "internal", retryable: true })
    expect(JSON.stringify(problem)).not.toContain("42")
  })

  it.each(["retryable", "overloaded", "durableObjectReset"])("of an object that is %s says to try again", async (mark) => {
    const response = await ask(Object.assign(new Error("Durable Object reset because its code was updated."), { [mark]: true }))
    expect(response.headers.get("retry-after")).toBe("1")
    expect((await problemOf(response)).code).toBe("unavailable")
  })

  it("in the setup is told by the health check", async () => {
    const app = newApp(() => ({ ...servicesOf({ ...env, SIGNING_KEY: "{}" } as never) }))
    const problem = await problemOf(await app.request("/healthz", {}, env))
    expect(problem).toMatchObject({ status: 503, code: "unavailable" })
  })
})
