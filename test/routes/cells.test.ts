import { afterEach, describe, expect, it, vi } from "vitest"
import { TenantObject } from "../../durable/tenant/object.ts"
import { Cell, Container, DryRun, OperatorDryRun } from "../../schema/api.ts"
import { EnrollAnswer } from "../../schema/node.ts"
import { aTenant, call, problemOf } from "../support/api.ts"
import { aHostKey, aJoinToken, anEnrolledNode, enroll } from "../support/enrolled-node.ts"
import { anId } from "../support/factories.ts"
import { aToken } from "../support/tokens.ts"

const operate = async (method: string, path: string, body?: object, headers: Record<string, string> = {}) =>
  call(method, path, { token: await aToken(), body, headers })
const aName = () => `c-${crypto.randomUUID()}`
const aCell = async (fields: object = {}) =>
  Cell.parse(await (await operate("POST", "/v1/admin/cells", { name: aName(), ...fields })).json())

afterEach(() => vi.restoreAllMocks())

const TINY = { cpus: 0.1, memory_bytes: 8 * 1024 ** 2, pids: 8, disk_bytes: 16 * 1024 ** 2 }

/** A node with room for a tiny container alone: test files share a directory, and all tenants may go to every cell. */
async function aNodeIn(cell_id: string) {
  const only = crypto.randomUUID().slice(0, 8)
  const facts = { capacity: { ...TINY, runs: 1 } }
  const node = await anEnrolledNode({ labels: { only }, cell_id, facts })
  return { ...node, tiny: { image: "a", placement: { labels: { only } }, resources: TINY } }
}

describe("cells", () => {
  it("are made with weights and room, read, listed and weighed anew", async () => {
    const response = await operate("POST", "/v1/admin/cells", { name: aName(), weights: { image: 2 } })
    expect(response.status).toBe(201)
    const cell = Cell.parse(await response.json())
    expect(response.headers.get("location")).toBe(`/v1/admin/cells/${cell.id}`)
    expect(cell.weights).toEqual({ spread: 1, bin_pack: 0, balance: 0.5, image: 2, failures: 1 })
    expect(cell.room).toMatchObject({ nodes: 0, runs: 0, cpus: 0 })
    const path = `/v1/admin/cells/${cell.id}`
    expect(await (await operate("GET", path)).json()).toEqual(cell)
    const changed = Cell.parse(await (await operate("PATCH", path, { weights: { bin_pack: 3, spread: 0 } })).json())
    expect(changed.weights).toEqual({ spread: 0, bin_pack: 3, balance: 0.5, image: 2, failures: 1 })
    const { items } = await (await operate("GET", "/v1/admin/cells")).json<{ items: Cell[] }>()
    expect(items.find(({ id }) => id === cell.id)).toEqual(changed)
  })

  it("have names and weights that are checked, and are made once for a key", async () => {
    const name = aName()
    const [first, again] = [1, 2].map(() => operate("POST", "/v1/admin/cells", { name }, { "idempotency-key": name }))
    const made = Cell.parse(await (await first)?.json())
    expect([201, 409]).toContain((await again)?.status)
    expect(await (await operate("POST", "/v1/admin/cells", { name }, { "idempotency-key": name })).json()).toEqual(made)
    expect((await problemOf(await operate("POST", "/v1/admin/cells", { name }))).code).toBe("name_taken")
    for (const weights of [{ spread: 11 }, { luck: 1 }])
      expect((await operate("PATCH", `/v1/admin/cells/${made.id}`, { weights })).status).toBe(422)
    expect((await problemOf(await operate("PATCH", `/v1/admin/cells/${anId("cel")}`, { weights: {} }))).code).toBe("not_found")
    expect((await problemOf(await operate("GET", `/v1/admin/cells/${anId("cel")}`))).code).toBe("not_found")
  })

  it("are joined by the token that names them", async () => {
    const { id } = await aCell()
    const enrolled = await enroll(await aJoinToken({ cell_id: id }), await aHostKey())
    expect(EnrollAnswer.parse(await enrolled.json()).cell_id).toBe(id)
    const problem = await problemOf(await operate("POST", "/v1/admin/join-tokens", { cell_id: anId("cel") }))
    expect(problem).toMatchObject({ status: 422, errors: [{ pointer: "/cell_id" }] })
  })

  it("take containers of tenants that were there before them", async () => {
    const { token } = await aTenant()
    const cell = await aCell()
    const { tiny } = await aNodeIn(cell.id)
    const made = await call("POST", "/v1/containers", { token, body: tiny, headers: { prefer: "wait=10" } })
    expect(Container.parse(await made.json()).status).toBe("running")
    expect(Cell.parse(await (await operate("GET", `/v1/admin/cells/${cell.id}`)).json()).room).toMatchObject({
      nodes: 1,
      runs: 1,
    })
  })

  it("are told later to tenants that did not hear of them at first", async () => {
    const { token } = await aTenant()
    const configure = vi.spyOn(TenantObject.prototype, "configure").mockRejectedValue(new Error("not now"))
    const missed = await aCell()
    configure.mockRestore()
    const { tiny } = await aNodeIn(missed.id)
    const dry = async () => DryRun.parse(await (await call("POST", "/v1/containers?dry_run=true", { token, body: tiny })).json())
    expect((await dry()).placeable).toBe(false)
    await aCell()
    expect((await dry()).placeable).toBe(true)
  })
})

describe("a dry run", () => {
  it("tells a tenant where it would go without naming a node, and makes nothing", async () => {
    const { id, token } = await aTenant()
    const { tiny, id: nodeId } = await aNodeIn((await aCell()).id)
    const body = { ...tiny, name: "web" }
    const response = await call("POST", "/v1/containers?dry_run=true", { token, body })
    expect(response.status).toBe(200)
    const text = await response.text()
    expect(DryRun.parse(JSON.parse(text))).toMatchObject({ placeable: true, fitting_nodes: 1 })
    expect(text).not.toContain("nod_")
    expect((await call("GET", "/v1/containers/web", { token })).status).toBe(404)
    const explained = await operate("POST", "/v1/admin/dry-run", { tenant_id: id, container: body })
    const told = OperatorDryRun.parse(await explained.json())
    expect(told.node_id).toBe(nodeId)
    expect(told.nodes.filter(({ reason }) => reason === null).map((node) => node.node_id)).toEqual([nodeId])
  })

  it("refuses what a create would be refused, and a tenant that there is not", async () => {
    const { token } = await aTenant({ containers: 0 })
    const refused = await call("POST", "/v1/containers?dry_run=true", { token, body: { image: "a" } })
    expect((await problemOf(refused)).code).toBe("quota_exceeded")
    const unknown = await operate("POST", "/v1/admin/dry-run", { tenant_id: anId("ten"), container: { image: "a" } })
    expect((await problemOf(unknown)).code).toBe("not_found")
  })
})

const batch = (token: string, body: object, headers: Record<string, string> = {}) =>
  call("POST", "/v1/containers:batch", { token, body, headers })

describe("a batch", () => {
  it("makes many of one spec, once for a key, and all or none", async () => {
    const { token } = await aTenant({ containers: 4 })
    const body = { count: 3, container: { image: "a", name: "web", placement: { labels: { disk: "none-such" } } } }
    const first = await batch(token, body, { "idempotency-key": "b1" })
    expect(first.status).toBe(201)
    const { items } = await first.json<{ items: { name: string }[] }>()
    expect(items.map(({ name }) => name)).toEqual(["web-1", "web-2", "web-3"])
    const again = await batch(token, body, { "idempotency-key": "b1" })
    expect(again.headers.get("idempotency-replayed")).toBe("true")
    expect((await again.json<{ items: object[] }>()).items).toEqual(items)
    expect((await problemOf(await batch(token, { count: 2, container: { image: "a" } }))).code).toBe("quota_exceeded")
    const listed = await call("GET", "/v1/containers", { token })
    expect((await listed.json<{ items: object[] }>()).items).toHaveLength(3)
  })

  it("refuses a count or a name that cannot be", async () => {
    const { token } = await aTenant()
    for (const body of [
      { count: 0, container: { image: "a" } },
      { count: 1001, container: { image: "a" } },
      { count: 10, container: { image: "a", name: "n".repeat(62) } },
      { count: 1, container: { image: "a", nmae: "x" } },
      { container: { image: "a" } },
    ])
      expect((await batch(token, body)).status).toBe(422)
  })
})
