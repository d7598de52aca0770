/** What the worker says of a node that connects, after it verified the node's assertion. */
import type { CellId, NodeId } from "../../schema/ids.ts"
import { SUBPROTOCOL } from "../../schema/protocol.ts"
import { CELL_ID_HEADER, NODE_ASSERTION_HEADER, NODE_ID_HEADER, NODE_LABELS_HEADER } from "../shared/rpc.ts"

export interface Opening {
  readonly node_id: NodeId
  readonly cell_id: CellId
  readonly operator_labels: Record<string, string>
  readonly assertion: { readonly id: string; readonly expires_at_ms: number }
}

/** A response is the refusal of a request that is no upgrade to our protocol. */
export function readOpening({ headers }: Request): Opening | Response {
  const node_id = headers.get(NODE_ID_HEADER) as NodeId | null
  const cell_id = headers.get(CELL_ID_HEADER) as CellId | null
  const [id, expiry] = (headers.get(NODE_ASSERTION_HEADER) ?? "").split(" ")
  const verified = node_id !== null && cell_id !== null && id !== undefined && expiry !== undefined
  if (!verified || headers.get("upgrade")?.toLowerCase() !== "websocket")
    return new Response("This address only upgrades nodes to a WebSocket.", { status: 400 })
  const offered = (headers.get("sec-websocket-protocol") ?? "").split(",").map((name) => name.trim())
  if (!offered.includes(SUBPROTOCOL)) return new Response(`This platform speaks ${SUBPROTOCOL}.`, { status: 400 })
  const operator_labels = JSON.parse(headers.get(NODE_LABELS_HEADER) ?? "{}") as Record<string, string>
  return { node_id, cell_id, operator_labels, assertion: { id, expires_at_ms: Number(expiry) } }
}
