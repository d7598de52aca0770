/** Counts a principal's calls, tells it with every answer what is left, and refuses what is too much. After `authenticate`. */
import { createMiddleware } from "hono/factory"
import type { AppEnv } from "../env.ts"
import { Refusal } from "../errors.ts"
import { rateLimitHeaders } from "../rate-limit.ts"

export const limitRate = createMiddleware<AppEnv>(async (c, next) => {
  const { rateLimiter, clock } = c.var.services
  const { tenant, subject } = c.var.principal
  const allowance = rateLimiter.take(`${tenant ?? ""} ${subject}`, clock.now())
  const headers = rateLimitHeaders(rateLimiter.quota, allowance)
  for (const [name, value] of Object.entries(headers)) c.header(name, value)
  if (!allowance.allowed) {
    const after = String(allowance.resetSeconds)
    throw new Refusal("rate_limited", `You may call ${rateLimiter.quota} times a minute; try again in ${after} seconds.`, {
      ...headers,
      "retry-after": after,
    })
  }
  await next()
})
