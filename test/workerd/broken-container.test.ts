import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { aCall, aControlPlane } from "../support/control-plane.ts"
import { aCreate, anObservation } from "../support/factories.ts"
import { waitFor } from "../support/wait-for.ts"

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** Two containers that their node was told of; the first's row cannot be read any more. */
async function oneBrokenOfTwo() {
  const { tenant, tenantStub, node } = await aControlPlane()
  const host = await node({ manual: true })
  const [broken, sound] = await Promise.all([1, 2].map(() => tenant.createContainer(aCall(), aCreate())))
  const runs = [broken, sound].map((answer) => answer?.body.run?.id ?? raise())
  for (const run of runs) await host.assigned(run)
  await waitFor("both to be on record", async () => (await tenant.getContainer(sound?.body.id ?? "")).run?.state === "placed")
  await evictDurableObject(tenantStub)
  await runInDurableObject(tenantStub, (_, state) => {
    state.storage.sql.exec("update containers set spec = '{' where id = ?", broken?.body.id)
  })
  return { tenant, tenantStub, host, runs, sound: sound?.body.id ?? raise() }
}
const raise = (): never => {
  throw new Error("no run was made")
}

describe("a container whose record is broken", () => {
  it("does not keep its node's report of others from being stored", async () => {
    const { tenant, host, runs, sound } = await oneBrokenOfTwo()
    await host.acknowledged(host.report(runs.map((run) => anObservation(run))))
    expect((await tenant.getContainer(sound)).status).toBe("running")
    expect(host.closed).toBeNull()
  })

  it("does not keep the alarm from others", async () => {
    const { tenant, tenantStub, sound } = await oneBrokenOfTwo()
    vi.useFakeTimers({ toFake: ["Date"] })
    await waitFor("the deadline of the other to pass", async () => {
      vi.setSystemTime(Date.now() + 31_000)
      await runDurableObjectAlarm(tenantStub)
      const { history } = await tenant.getContainer(sound)
      return history.some(({ reason }) => reason?.code === "deadline_exceeded")
    })
  })
})
