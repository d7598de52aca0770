/** The product's own worker and objects, with a floor beside its routes and a way to fill a tenant's log of events. */
import type { Env } from "../../../durable/shared/ports.ts"
import { TenantObject as ProductTenant } from "../../../durable/tenant/object.ts"
import { newApp } from "../../../worker/app.ts"

export { CellObject } from "../../../durable/cell/object.ts"
export { NodeObject } from "../../../durable/node/object.ts"

/** Rows that one statement inserts. */
const CHUNK = 100_000

export class TenantObject extends ProductTenant {
  /** Events of no container, as many as nobody has the time to make one by one. */
  async fillEvents(count: number): Promise<void> {
    for (let from = 0; from < count; from += CHUNK) {
      this.ctx.storage.sql.exec(
        `with recursive n(i) as (select ?1 union all select i + 1 from n where i + 1 < ?2)
         insert into events (id, type, time_ms, data) select printf('evt_%026d', i), 'container.running', ?3, '{"attempt":1}' from n`,
        from,
        Math.min(count, from + CHUNK),
        Date.now(),
      )
      await scheduler.wait(0)
    }
  }
}

const app = newApp()
/** What the server, the framework and an answer of JSON cost by themselves. */
app.get("/floor", (c) => c.json({ status: "ok" }))
app.post("/fill/:tenant/:count", async (c) => {
  const { TENANT } = c.env as Env
  const tenant = TENANT.get(TENANT.idFromName(c.req.param("tenant"))) as unknown as TenantObject
  await tenant.fillEvents(Number(c.req.param("count")))
  return c.json({})
})

export default app
