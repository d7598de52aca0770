import { evictDurableObject } from "cloudflare:test"
import { describe, expect, it } from "vitest"
import { QuotaUse } from "../../schema/api.ts"
import { MIB } from "../../schema/container.ts"
import { aTenant, call, problemOf } from "../support/api.ts"
import { stubs } from "../support/control-plane.ts"

const resources = {
  cpus: 0.1,
  memory_bytes: 16 * MIB,
  disk_bytes: 32 * MIB,
  accelerators: [{ kind: "nvidia.com/gpu", count: 2 }],
}
const create = (token: string, body: object = {}) =>
  call("POST", "/v1/containers", { token, body: { image: "localhost/hello:latest", resources, ...body } })
const used = async (token: string) => QuotaUse.parse(await (await call("GET", "/v1/quota", { token })).json()).used

describe("the quota", () => {
  it("is read with its use, which goes up with what starts and down with what ends, over evictions too", async () => {
    const { id, token } = await aTenant()
    for (const name of ["a", "b", "c"]) expect((await create(token, { name })).status).toBe(201)
    await create(token, { name: "idle", start: false })
    expect(await used(token)).toMatchObject({
      containers: 3,
      cpus: 0.3,
      memory_bytes: 48 * MIB,
      disk_bytes: 96 * MIB,
      accelerators: { "nvidia.com/gpu": 6 },
      creates_in_last_minute: 4,
    })
    await evictDurableObject(stubs.tenant(id))
    await call("POST", "/v1/containers/a/stop", { token })
    expect(await used(token)).toMatchObject({ containers: 2, cpus: 0.2, accelerators: { "nvidia.com/gpu": 4 } })
    for (const name of ["a", "b", "c", "idle"]) await call("DELETE", `/v1/containers/${name}?force`, { token })
    expect(await used(token)).toMatchObject({ containers: 0, cpus: 0, memory_bytes: 0, disk_bytes: 0, accelerators: {} })
    expect((await used(token)).events).toBeGreaterThan(8)
  })

  it("is not counted for what was refused", async () => {
    const { token } = await aTenant({ accelerators: { "nvidia.com/gpu": 3 } })
    expect((await create(token)).status).toBe(201)
    const refused = await create(token)
    expect(await problemOf(refused)).toMatchObject({
      status: 429,
      code: "quota_exceeded",
      detail: "The quota for accelerators of the kind nvidia.com/gpu is 3; 2 are in use and this asks for 2 more.",
    })
    expect(await used(token)).toMatchObject({ containers: 1, accelerators: { "nvidia.com/gpu": 2 }, creates_in_last_minute: 1 })
  })

  it("bounds how many are made in a minute, running or not, by batches as well", async () => {
    const { token } = await aTenant({ creates_per_minute: 3 })
    const body = { count: 3, container: { image: "localhost/hello:latest", start: false } }
    expect((await call("POST", "/v1/containers:batch", { token, body })).status).toBe(201)
    const refused = await problemOf(await create(token, { start: false }))
    expect(refused.detail).toContain("The quota for creates_per_minute is 3; 3 were made in the last minute")
  })
})
