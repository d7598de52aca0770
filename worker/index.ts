/** The entry of the Worker: the API, and the classes of its objects. */
import type { Env } from "../durable/shared/ports.ts"
import { newApp } from "./app.ts"
import { servicesOf } from "./env.ts"
import { tellTenants } from "./tenant-settings.ts"

export { CellObject } from "../durable/cell/object.ts"
export { NodeObject } from "../durable/node/object.ts"
export { TenantObject } from "../durable/tenant/object.ts"

const app = newApp()
let fresh = true

export default {
  fetch(request, env, ctx) {
    // A worker that died half-way through telling tenants of a change is followed by another: this one.
    if (fresh) ctx.waitUntil(finishTelling(env))
    fresh = false
    return app.fetch(request, env, ctx)
  },
} satisfies ExportedHandler<Env>

async function finishTelling(env: Env): Promise<void> {
  try {
    await tellTenants(servicesOf(env))
  } catch (error) {
    console.error("the directory did not say which tenants have yet to hear of a change; the next call that tells will", error)
  }
}
