import { BatchAnswer } from "../../schema/api.ts"
import { ContainerBatch, MAX_BATCH } from "../../schema/container.ts"
import { CONTAINER_ID } from "../examples.ts"
import { replayHeaders } from "../middleware/idempotency.ts"
import { callOf, operation, tenantOf } from "../operation.ts"

export const batchContainers = operation({
  id: "createContainers",
  method: "post",
  path: "/v1/containers:batch",
  tag: "Containers",
  access: "containers:create",
  admission: "by-its-call",
  summary: "Create many containers of one spec",
  description:
    `Up to ${MAX_BATCH}, all of them or none: the quota must hold them together. A name is numbered: \`web\` becomes \`web-1\`, ` +
    "`web-2` and so on. The answer comes once they are stored; they are placed together and start as nodes take them.",
  body: ContainerBatch,
  answer: {
    status: 201,
    description: "The containers, in the order of their numbers, as they are once stored.",
    schema: BatchAnswer,
    example: { items: [{ id: CONTAINER_ID, name: "web-1", status: "scheduling" }] },
  },
  errors: ["name_taken", "policy_refused", "quota_exceeded"],
  example: {
    body: {
      count: 3,
      container: {
        image: "registry.example/team/app:1.4",
        name: "web",
        placement: { group: "web", spread: { by: "zone", limit: 2 } },
        restart: { policy: "always" },
      },
    },
  },
  async handle(c, { body, idempotency }) {
    const answer = await tenantOf(c).createBatch(callOf(c, idempotency), body)
    return { status: 201, body: answer.body, headers: replayHeaders(answer.replayed) }
  },
})
