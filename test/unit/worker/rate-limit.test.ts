import { describe, expect, it } from "vitest"
import { RateLimiter, rateLimitHeaders } from "../../../worker/rate-limit.ts"

const NOW = 1_800_000_000_000

describe("a rate limiter", () => {
  it("allows so many calls in a minute that begins with the first, to each principal", () => {
    const limiter = new RateLimiter(2)
    expect(limiter.take("a", NOW)).toEqual({ allowed: true, remaining: 1, resetSeconds: 60 })
    expect(limiter.take("a", NOW + 20_500)).toEqual({ allowed: true, remaining: 0, resetSeconds: 40 })
    expect(limiter.take("a", NOW + 59_999)).toEqual({ allowed: false, remaining: 0, resetSeconds: 1 })
    expect(limiter.take("b", NOW + 59_999)).toMatchObject({ allowed: true })
    expect(limiter.take("a", NOW + 60_000)).toEqual({ allowed: true, remaining: 1, resetSeconds: 60 })
  })

  it("remembers a bounded number of principals, and forgets those whose minute began first", () => {
    const limiter = new RateLimiter(1)
    for (let i = 0; i <= 10_000; i++) limiter.take(`p${i}`, NOW)
    expect(limiter.take("p0", NOW).allowed).toBe(true)
    expect(limiter.take("p10000", NOW).allowed).toBe(false)
  })

  it("tells policy and rest as structured fields", () => {
    expect(rateLimitHeaders(100, { allowed: true, remaining: 7, resetSeconds: 3 })).toEqual({
      "RateLimit-Policy": '"principal";q=100;w=60',
      RateLimit: '"principal";r=7;t=3',
    })
  })
})
