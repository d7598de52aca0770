import { Container, ForceQuery } from "../../schema/api.ts"
import { container, CONTAINER_ID } from "../examples.ts"
import { replayHeaders } from "../middleware/idempotency.ts"
import { callOf, operation, tenantOf } from "../operation.ts"
import { ContainerPath } from "../references.ts"

export const removeContainer = operation({
  id: "removeContainer",
  method: "delete",
  path: "/v1/containers/{id}",
  tag: "Containers",
  access: "containers:delete",
  admission: "by-its-call",
  summary: "Remove a container",
  description:
    "A container that runs is not removed unless you `force` it: then it is killed first and stays in `stopping` until " +
    "nothing of it is left on its node. A removed container can still be read for a day.",
  params: ContainerPath,
  query: ForceQuery,
  answer: {
    status: 200,
    description: "The container: `removed`, or `stopping` on its way there.",
    schema: Container,
    example: { ...container, status: "removed", actions: [] },
  },
  errors: ["action_not_allowed"],
  example: { params: { id: CONTAINER_ID }, query: "force=true" },
  async handle(c, { params, query, idempotency }) {
    const action = { kind: "remove", force: query.force ?? false } as const
    const answer = await tenantOf(c).act(callOf(c, idempotency), params.id, action)
    return { status: 200, body: answer.body, headers: replayHeaders(answer.replayed) }
  },
})
