import { env } from "cloudflare:workers"
import { expect, it } from "vitest"
import { newApp } from "../../worker/app.ts"
import { type AppEnv, servicesOf } from "../../worker/env.ts"
import { RateLimiter } from "../../worker/rate-limit.ts"
import { aTenant, call, problemOf } from "../support/api.ts"

it("every answer to a principal tells what is left of its minute", async () => {
  const { token } = await aTenant()
  const left = async () => {
    const { headers } = await call("GET", "/v1/containers", { token })
    expect(headers.get("ratelimit-policy")).toBe('"principal";q=120000;w=60')
    return Number(/^"principal";r=(\d+);t=\d+$/.exec(headers.get("ratelimit") ?? "")?.[1])
  }
  const first = await left()
  expect(await left()).toBe(first - 1)
})

it("what is too much is refused, with the seconds to wait", async () => {
  const bindings = env as unknown as AppEnv["Bindings"]
  const app = newApp((of) => ({ ...servicesOf(of), rateLimiter: new RateLimiter(1) }))
  const shared = new RateLimiter(1)
  const limited = newApp((of) => ({ ...servicesOf(of), rateLimiter: shared }))
  const { token } = await aTenant()
  const headers = { authorization: `Bearer ${token}` }
  expect((await app.request("/v1/containers", { headers }, bindings)).status).toBe(200)
  expect((await limited.request("/v1/containers", { headers }, bindings)).status).toBe(200)
  const refused = await limited.request("/v1/containers", { headers }, bindings)
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0)
  expect(refused.headers.get("ratelimit")).toMatch(/^"principal";r=0;/)
  expect(await problemOf(refused)).toMatchObject({ status: 429, code: "rate_limited", retryable: true })
})
