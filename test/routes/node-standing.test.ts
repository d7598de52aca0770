import { describe, expect, it } from "vitest"
import { NodeView } from "../../schema/api.ts"
import { aTenant, call, problemOf } from "../support/api.ts"
import { aHostKey, aJoinToken, anEnrolledNode, enroll } from "../support/enrolled-node.ts"
import { anId } from "../support/factories.ts"
import { aToken } from "../support/tokens.ts"

const operate = async (method: string, path: string, body?: object) => call(method, path, { token: await aToken(), body })

const view = async (answer: Response) => NodeView.parse(await answer.json())

/** Of a call that waits for a new container to run. */
const status = async (token: string) => {
  const body = { image: "a", placement: { labels: { region: "eu-8" } } }
  const { id: made } = await (await call("POST", "/v1/containers", { token, body })).json<{ id: string }>()
  const answer = await call("GET", `/v1/containers/${made}/wait?status=running&timeout=1`, { token })
  return answer.status
}

describe("nodes", () => {
  it("are cordoned, drained and uncordoned, and say so", async () => {
    const { id } = await anEnrolledNode()
    const path = `/v1/admin/nodes/${id}`
    expect(await view(await operate("POST", `${path}/cordon`, { reason: "new memory" }))).toMatchObject({
      cordoned: true,
      accepting: false,
      reason: { code: "node_cordoned", message: "The node was cordoned: new memory" },
    })
    const drained = await view(await operate("POST", `${path}/drain`, { deadline_seconds: 60 }))
    expect(drained).toMatchObject({
      cordoned: true,
      reason: { code: "node_draining" },
      drain: { runs_at_start: 0, runs_left: 0 },
    })
    const { since, deadline } = drained.drain ?? { since: "", deadline: "" }
    expect(Math.abs(Date.parse(deadline) - Date.parse(since) - 60_000)).toBeLessThan(5_000)
    expect(await view(await operate("POST", `${path}/drain`))).toMatchObject({ drain: { since } })
    expect(await view(await operate("POST", `${path}/uncordon`))).toMatchObject({ cordoned: false, drain: null, accepting: true })
  })

  it("are kept for some tenants, and given back to all", async () => {
    const { id } = await anEnrolledNode({ labels: { region: "eu-8" } })
    const [mine, other] = [await aTenant(), await aTenant()]
    const path = `/v1/admin/nodes/${id}`
    const exclusive = async (exclusive_to: string[] | null) =>
      NodeView.parse(await (await operate("PATCH", path, { exclusive_to })).json()).exclusive_to
    expect(await exclusive([mine.id])).toEqual([mine.id])
    expect([await status(mine.token), await status(other.token)]).toEqual([200, 408])
    expect(await exclusive(null)).toBeNull()
    expect(await status(other.token)).toBe(200)
  })

  it("are not kept for tenants, nor moved to cells, that there are not", async () => {
    const { id, cellId } = await anEnrolledNode()
    const patch = async (body: object) => operate("PATCH", `/v1/admin/nodes/${id}`, body)
    const unknown = await problemOf(await patch({ exclusive_to: [anId("ten")] }))
    expect(unknown).toMatchObject({ status: 422, errors: [{ pointer: "/exclusive_to/0" }] })
    expect((await problemOf(await patch({ exclusive_to: [] }))).status).toBe(422)
    expect(await problemOf(await patch({ cell_id: anId("cel") }))).toMatchObject({ errors: [{ pointer: "/cell_id" }] })
    expect((await patch({ cell_id: cellId })).status).toBe(200)
  })

  it("that never connected cannot be cordoned yet", async () => {
    const { node_id } = await (await enroll(await aJoinToken(), await aHostKey())).json<{ node_id: string }>()
    const refused = await problemOf(await operate("POST", `/v1/admin/nodes/${node_id}/cordon`))
    expect(refused).toMatchObject({ status: 409, detail: "The node has not connected yet." })
  })

  it("that do not exist are not found", async () => {
    const path = `/v1/admin/nodes/${anId("nod")}`
    for (const verb of ["cordon", "uncordon", "drain"])
      expect((await problemOf(await operate("POST", `${path}/${verb}`))).code).toBe("not_found")
    expect((await problemOf(await operate("PATCH", path, { exclusive_to: null }))).code).toBe("not_found")
  })
})
