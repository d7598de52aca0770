import { AppError } from "../../schema/errors.ts"
import { EnrollAnswer, EnrollRequest } from "../../schema/node.ts"
import type { Directory, NodeRow } from "../directory.ts"
import type { AppContext } from "../env.ts"
import { CELL_ID, NODE_ID } from "../examples.ts"
import { sha256Hex } from "../hash.ts"
import { once } from "../middleware/idempotency.ts"
import { operation } from "../operation.ts"

export const enrollNode = operation({
  id: "enrollNode",
  method: "post",
  path: "/v1/nodes/enroll",
  tag: "Nodes",
  access: "join-token",
  summary: "Enrol a node",
  description:
    "Trades a one-time join token for a node id. The private key never leaves the host: the node later signs short-lived " +
    "assertions with it. Enrolling the same key with the same token again answers the same node.",
  body: EnrollRequest,
  answer: {
    status: 200,
    description: "The node's id and its cell.",
    schema: EnrollAnswer,
    example: { node_id: NODE_ID, cell_id: CELL_ID, issuer: "https://berth.example" },
  },
  errors: ["forbidden"],
  example: {
    body: {
      join_token: "berth-join-6yV0c0b1l4mJ2h9e7Qm3sJ5kB8w1tX4nR0pZ6uC2aVg",
      public_key: { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
      hostname: "host-7",
    },
  },
  async handle(c, { body, idempotency, ids }) {
    const { clock, directory } = c.var.services
    const hash = await sha256Hex(body.join_token)
    const token = await directory.joinToken(hash)
    if (!token) throw new AppError("forbidden", "This join token is not known.")
    const answer = await once(c, token.id, idempotency, async () => {
      const nowMs = clock.now()
      const x = body.public_key.x
      const known = await directory.nodeWithKey(x)
      if (known) return answerOf(c, known, known.id === token.nodeId)
      if (token.nodeId === null && token.expiresAtMs <= nowMs) throw new AppError("forbidden", "This join token has expired.")
      const cellId = token.cellId ?? (await directory.defaultCell(ids.make("cel"), nowMs))
      const node = { id: ids.make("nod"), cellId, hostname: body.hostname, x, nowMs }
      await directory.enroll(hash, node)
      return answerOf(c, await enrolled(directory, x), true)
    })
    return { status: 200, body: EnrollAnswer.parse(answer.body), headers: answer.headers }
  },
})

/** The node that has this key now; without one another host used the token first, or it expired meanwhile. */
async function enrolled(directory: Directory, x: string): Promise<NodeRow> {
  const row = await directory.nodeWithKey(x)
  if (!row) throw new AppError("forbidden", "This join token was used by another node.")
  return row
}

function answerOf(c: AppContext, node: NodeRow, sameToken: boolean) {
  if (node.forgotten) throw new AppError("forbidden", "The node with this key was forgotten; enrol with a new key.")
  if (!sameToken) throw new AppError("forbidden", "This key is already enrolled, with another join token.")
  return { status: 200 as const, body: { node_id: node.id, cell_id: node.cellId, issuer: c.env.ISSUER } }
}
