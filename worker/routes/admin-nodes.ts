/** Nodes, as operators see them, let them in and send them away. */
import { base64url } from "jose"
import { z } from "zod"
import { fromQuery, JoinTokenAnswer, JoinTokenCreate, NodeView, OPERATOR_SCOPE, page, PageQuery } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { NodeId } from "../../schema/ids.ts"
import { pageOf, parseCursor } from "../cursors.ts"
import type { NodeRow } from "../directory.ts"
import type { AppContext } from "../env.ts"
import { JOIN_TOKEN_ID, node, NODE_ID } from "../examples.ts"
import { sha256Hex } from "../hash.ts"
import { nodeViews } from "../node-view.ts"
import { operation } from "../operation.ts"

export const NodePath = z.object({ id: NodeId.meta({ examples: [NODE_ID] }) })

/** Each node of a page is asked for its status, so pages stay short. */
const MAX_NODE_PAGE = 100
const JOIN_TOKEN_BYTES = 32

const noSuchNode = () => new AppError("not_found", "There is no node with this id.")

async function rowOf(c: AppContext, id: string): Promise<NodeRow> {
  const row = await c.var.services.directory.node(id)
  if (!row) throw noSuchNode()
  return row
}

/** One that is not forgotten. @throws AppError `not_found`. */
export async function knownNode(c: AppContext, id: string): Promise<NodeRow> {
  const row = await rowOf(c, id)
  if (row.forgotten) throw noSuchNode()
  return row
}

/** As it is now. @throws AppError `not_found`. */
export async function viewOfNode(c: AppContext, id: string): Promise<NodeView> {
  const [view] = await nodeViews(c.var.services, [await knownNode(c, id)])
  if (!view) throw noSuchNode()
  return view
}

export const listNodes = operation({
  id: "listNodes",
  method: "get",
  path: "/v1/admin/nodes",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "List nodes",
  description: `In the order in which they enrolled, at most ${MAX_NODE_PAGE} at a time, with what is reserved on each.`,
  query: PageQuery.extend({ limit: fromQuery(z.int().min(1).max(MAX_NODE_PAGE)).default(MAX_NODE_PAGE) }),
  answer: {
    status: 200,
    description: "One page.",
    schema: page(NodeView, "NodePage"),
    example: { items: [node], next_cursor: null },
  },
  errors: [],
  example: { query: "limit=50" },
  async handle(c, { query }) {
    const rows = await c.var.services.directory.nodes(parseCursor(query.cursor), query.limit + 1)
    const items = await nodeViews(c.var.services, rows.slice(0, query.limit))
    return { status: 200, body: pageOf(rows, query.limit, items) }
  },
})

export const getNode = operation({
  id: "getNode",
  method: "get",
  path: "/v1/admin/nodes/{id}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Read a node",
  description:
    "What the host says of itself and finds wrong with itself, whether it is connected, what is reserved on it, and how far " +
    "emptying it has come.",
  params: NodePath,
  answer: { status: 200, description: "The node.", schema: NodeView, example: node },
  errors: ["not_found"],
  example: { params: { id: NODE_ID } },
  handle: async (c, { params }) => ({ status: 200, body: await viewOfNode(c, params.id) }),
})

export const forgetNode = operation({
  id: "forgetNode",
  method: "delete",
  path: "/v1/admin/nodes/{id}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Forget a node",
  description:
    "For a host that will not come back. Its runs are lost and their containers are placed anew by their restart policies; its " +
    "key is never accepted again. To use the host again, enrol it with a new key.",
  params: NodePath,
  answer: { status: 204, description: "The node is forgotten. Doing it again changes nothing." },
  errors: ["not_found"],
  example: { params: { id: NODE_ID } },
  async handle(c, { params }) {
    const { clock, directory, peers } = c.var.services
    const row = await rowOf(c, params.id)
    // First the door, then the objects; whoever repeats a call that died half-way does all of it again.
    await directory.forgetNode(row.id, clock.now())
    await peers.node(row.id).forget()
    await peers.cell(row.cellId).forgetNode(row.id)
    return { status: 204, body: null }
  },
})

export const createJoinToken = operation({
  id: "createJoinToken",
  method: "post",
  path: "/v1/admin/join-tokens",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Create a join token",
  description:
    "One host may enrol with it, once, into the cell that it names. The labels become the node's and outrank what the host says " +
    "of itself: `region` among them.",
  body: JoinTokenCreate,
  bodyOptional: true,
  answer: {
    status: 201,
    description: "The token; it is shown only here and stored only as a hash.",
    schema: JoinTokenAnswer,
    example: {
      id: JOIN_TOKEN_ID,
      join_token: "berth-join-6yV0c0b1l4mJ2h9e7Qm3sJ5kB8w1tX4nR0pZ6uC2aVg",
      expires_at: "2026-11-23T19:30:00.000Z",
    },
  },
  errors: [],
  example: { body: { labels: { region: "eu-1" }, expires_in_seconds: 3600 } },
  async handle(c, { body, ids }) {
    const { clock, directory } = c.var.services
    const id = ids.make("jtk")
    const secret = crypto.getRandomValues(new Uint8Array(JOIN_TOKEN_BYTES))
    const join_token = `berth-join-${base64url.encode(secret)}`
    const nowMs = clock.now()
    const expiresAtMs = nowMs + body.expires_in_seconds * 1000
    const createdBy = c.var.principal.subject
    const cellId = body.cell_id ?? null
    if (cellId !== null && !(await directory.hasCell(cellId))) {
      const message = "must be the id of a cell"
      throw new AppError("invalid_field", `cell_id ${message}.`, { errors: [{ pointer: "/cell_id", message }] })
    }
    const hash = await sha256Hex(join_token)
    await directory.addJoinToken({ id, hash, labels: body.labels, cellId, createdBy, nowMs, expiresAtMs })
    return { status: 201, body: { id, join_token, expires_at: new Date(expiresAtMs).toISOString() } }
  },
})
