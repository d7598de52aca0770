/** Gives each request its id and the services it works with, and each answer the headers that all of them have. */
import { createMiddleware } from "hono/factory"
import type { Env } from "../../durable/shared/ports.ts"
import type { AppEnv, Services } from "../env.ts"

/** The id is always ours: one that a client chose could be made to look like another request's in our logs. */
export const requestContext = (servicesOf: (env: Env) => Services, offered: ReadonlySet<string>) =>
  createMiddleware<AppEnv>(async (c, next) => {
    const services = servicesOf(c.env)
    const requestId = services.ids.make("req")
    c.set("services", services)
    c.set("offered", offered)
    c.set("requestId", requestId)
    c.header("x-request-id", requestId)
    c.header("cache-control", "no-store")
    c.header("x-content-type-options", "nosniff")
    await next()
  })
