import type * as Rpc from "../../durable/shared/rpc.ts"
import type { ErrorCode } from "../../schema/errors.ts"
import { AppError } from "../../schema/errors.ts"
import { SUBPROTOCOL } from "../../schema/protocol.ts"
import { authenticateNode } from "../middleware/authenticate-node.ts"
import { operation } from "../operation.ts"
import { sha256Hex } from "../hash.ts"

/*
 * The names that durable/shared/rpc.ts gives these headers. The worker imports only types from there, and a type is enough to
 * hold both to the same words.
 */
const NODE_ID_HEADER: typeof Rpc.NODE_ID_HEADER = "x-berth-node-id"
const CELL_ID_HEADER: typeof Rpc.CELL_ID_HEADER = "x-berth-cell-id"
const NODE_ASSERTION_HEADER: typeof Rpc.NODE_ASSERTION_HEADER = "x-berth-node-assertion"
const NODE_LABELS_HEADER: typeof Rpc.NODE_LABELS_HEADER = "x-berth-node-labels"

/** What a NodeObject says no with, beside 400. */
const REFUSALS: Partial<Record<number, ErrorCode>> = { 401: "unauthenticated", 503: "unavailable" }

export const connectNode = operation({
  id: "connectNode",
  method: "get",
  path: "/v1/nodes/connect",
  tag: "Nodes",
  access: "node-assertion",
  summary: "Connect a node",
  description:
    "Upgrades to a WebSocket that speaks the node protocol, named in `Sec-WebSocket-Protocol`. The bearer token is an assertion " +
    "that the node signed with its own key, valid for a minute at most and for one session.",
  answer: {
    status: 101,
    description: `Switched to the WebSocket protocol ${SUBPROTOCOL}.`,
    headers: { "Sec-WebSocket-Protocol": SUBPROTOCOL },
  },
  errors: ["bad_request"],
  example: {},
  async handle(c) {
    const { node, assertion } = await authenticateNode(c)
    if (c.req.header("upgrade")?.toLowerCase() !== "websocket")
      throw new AppError("bad_request", "This address only upgrades to a WebSocket.")
    const headers = new Headers(c.req.raw.headers)
    // Ours replace whatever the caller sent under these names: the NodeObject believes them.
    headers.set(NODE_ID_HEADER, node.id)
    headers.set(CELL_ID_HEADER, node.cellId)
    headers.set(NODE_LABELS_HEADER, JSON.stringify(node.labels))
    headers.set(NODE_ASSERTION_HEADER, `${await sha256Hex(assertion.jti)} ${assertion.expiresAtMs}`)
    headers.delete("authorization")
    const answer = await c.var.services.peers.node(node.id).fetch(new Request(c.req.raw, { headers }))
    if (answer.webSocket === null) throw new AppError(REFUSALS[answer.status] ?? "bad_request", await answer.text())
    const switched = new Headers(answer.headers)
    switched.set("x-request-id", c.var.requestId)
    return new Response(null, { status: 101, webSocket: answer.webSocket, headers: switched })
  },
})
