import { OPERATOR_SCOPE, OperatorDryRun, OperatorDryRunCreate } from "../../schema/api.ts"
import { CELL_ID, NODE_ID, TENANT_ID } from "../examples.ts"
import { operation } from "../operation.ts"

export const dryRunForTenant = operation({
  id: "dryRunForTenant",
  method: "post",
  path: "/v1/admin/dry-run",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Explain a placement",
  description:
    "Where a container of this tenant would go now, and of every node why not there, or how it scores. Refuses what the tenant " +
    "would be refused. Nothing is created or reserved.",
  body: OperatorDryRunCreate,
  answer: {
    status: 200,
    description: "What the cells make of it.",
    schema: OperatorDryRun,
    example: {
      node_id: NODE_ID,
      nodes: [
        { node_id: NODE_ID, cell_id: CELL_ID, reason: null, score: 1.75, scores: { spread: 0.75, bin_pack: 0.25, balance: 1, image: 0, failures: 0.5 } },
        { node_id: "nod_01kaz3v8q0f1x8t1m5y7c2d9e5", cell_id: CELL_ID, reason: "is not ready", score: null, scores: {} },
      ],
    },
  },
  errors: ["name_taken", "not_found", "policy_refused", "quota_exceeded"],
  example: {
    body: { tenant_id: TENANT_ID, container: { image: "registry.example/team/app:1.4", placement: { labels: { region: "eu-1" } } } },
  },
  handle: async (c, { body }) => ({
    status: 200,
    body: await c.var.services.peers.tenant(body.tenant_id).explain(body.container),
  }),
}) // prettier-ignore
