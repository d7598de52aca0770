/** What operators make of a node that stays: kept free of new runs, emptied, given to some tenants, moved to another cell. */
import type { CellId, TenantId } from "../../schema/ids.ts"
import { CordonBody, DrainBody, NodeUpdate, NodeView, OPERATOR_SCOPE } from "../../schema/api.ts"
import { AppError, asAppError } from "../../schema/errors.ts"
import type { AppContext } from "../env.ts"
import { CELL_ID, node, NODE_ID, TENANT_ID } from "../examples.ts"
import { MERGE_PATCH_MEDIA, operation } from "../operation.ts"
import { knownNode, NodePath, viewOfNode } from "./admin-nodes.ts"

const ANSWER = { status: 200, description: "The node, as it is now.", schema: NodeView, example: node } as const

export const cordonNode = operation({
  id: "cordonNode",
  method: "post",
  path: "/v1/admin/nodes/{id}/cordon",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Cordon a node",
  description: "Nothing new is placed there until `uncordon`; what runs there goes on. Doing it again replaces the reason.",
  params: NodePath,
  body: CordonBody,
  bodyOptional: true,
  answer: ANSWER,
  errors: ["not_found", "action_not_allowed"],
  example: { params: { id: NODE_ID }, body: { reason: "new memory on Friday" } },
  async handle(c, { params, body }) {
    const { id } = await knownNode(c, params.id)
    await connectedOnce(() => c.var.services.peers.node(id).cordon(body.reason ?? null))
    return { status: 200, body: await viewOfNode(c, id) }
  },
})

export const uncordonNode = operation({
  id: "uncordonNode",
  method: "post",
  path: "/v1/admin/nodes/{id}/uncordon",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Uncordon a node",
  description: "New runs may be placed there again. Ends a drain as well; what has left stays away.",
  params: NodePath,
  answer: ANSWER,
  errors: ["not_found", "action_not_allowed"],
  example: { params: { id: NODE_ID } },
  async handle(c, { params }) {
    const { id } = await knownNode(c, params.id)
    await connectedOnce(() => c.var.services.peers.node(id).uncordon())
    return { status: 200, body: await viewOfNode(c, id) }
  },
})

export const drainNode = operation({
  id: "drainNode",
  method: "post",
  path: "/v1/admin/nodes/{id}/drain",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Drain a node",
  description:
    "Cordons it and has its containers go elsewhere, each as its `drain` says; those that no restart policy would replace stay " +
    "until the deadline and are stopped then. `drain` of the node tells how far it has come. Doing it again sets the deadline anew.",
  params: NodePath,
  body: DrainBody,
  bodyOptional: true,
  answer: ANSWER,
  errors: ["not_found", "action_not_allowed"],
  example: { params: { id: NODE_ID }, body: { deadline_seconds: 600 } },
  async handle(c, { params, body }) {
    const { clock, peers } = c.var.services
    const { id } = await knownNode(c, params.id)
    await connectedOnce(() => peers.node(id).drain(clock.now() + body.deadline_seconds * 1000))
    return { status: 200, body: await viewOfNode(c, id) }
  },
})

export const updateNode = operation({
  id: "updateNode",
  method: "patch",
  path: "/v1/admin/nodes/{id}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Change a node",
  description:
    "A JSON Merge Patch (RFC 7396). `exclusive_to` holds for what is placed from then on; runs of others that are there stay. " +
    "`cell_id` moves the node to another cell, once it is drained.",
  params: NodePath,
  body: NodeUpdate,
  bodyMedia: [MERGE_PATCH_MEDIA],
  answer: ANSWER,
  errors: ["not_found", "action_not_allowed"],
  example: { params: { id: NODE_ID }, body: { exclusive_to: [TENANT_ID], cell_id: CELL_ID } },
  async handle(c, { params, body }) {
    const { id } = await knownNode(c, params.id)
    const { exclusive_to, cell_id } = body
    if (exclusive_to) await demandTenants(c, exclusive_to)
    if (cell_id) await demandCell(c, cell_id)
    const object = c.var.services.peers.node(id)
    if (exclusive_to !== undefined) await connectedOnce(() => object.setExclusive(exclusive_to))
    if (cell_id !== undefined) {
      await connectedOnce(() => object.moveTo(cell_id))
      // The node's object decides; if this call fails here, a repeat finds it moved and does the rest.
      await c.var.services.directory.moveNode(id, cell_id)
    }
    return { status: 200, body: await viewOfNode(c, id) }
  },
})

/** A node object learns who it is from its first session; before it there is a node to the directory alone. */
async function connectedOnce(call: () => Promise<void>): Promise<void> {
  try {
    await call()
  } catch (error) {
    if (asAppError(error)?.code !== "not_found") throw error
    throw new AppError("action_not_allowed", "The node has not connected yet.", { cause: error })
  }
}

async function demandTenants(c: AppContext, ids: readonly TenantId[]): Promise<void> {
  const { directory } = c.var.services
  const known = await Promise.all(ids.map((id) => directory.hasTenant(id)))
  const errors = ids.flatMap((_, i) =>
    known[i] === true ? [] : [{ pointer: `/exclusive_to/${i}`, message: "There is no tenant with this id." }],
  )
  if (errors.length > 0) throw new AppError("invalid_field", "/exclusive_to: names a tenant that there is not.", { errors })
}

async function demandCell(c: AppContext, id: CellId): Promise<void> {
  if (await c.var.services.directory.hasCell(id)) return
  const errors = [{ pointer: "/cell_id", message: "There is no cell with this id." }]
  throw new AppError("invalid_field", "/cell_id: There is no cell with this id.", { errors })
}
