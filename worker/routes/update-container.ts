import { Container } from "../../schema/api.ts"
import { ContainerUpdate } from "../../schema/container.ts"
import { container, CONTAINER_ID } from "../examples.ts"
import { replayHeaders } from "../middleware/idempotency.ts"
import { callOf, MERGE_PATCH_MEDIA, operation, tenantOf } from "../operation.ts"
import { ContainerPath } from "../references.ts"

export const updateContainer = operation({
  id: "updateContainer",
  method: "patch",
  path: "/v1/containers/{id}",
  tag: "Containers",
  access: "containers:control",
  admission: "by-its-call",
  summary: "Change a container's network",
  description:
    "A JSON Merge Patch (RFC 7396): what is left out stays, and null takes a limit away. A live container changes in place, " +
    "within moments and without a new run; its next runs begin with the change. What the profile of its host cannot do is refused " +
    "until the container is stopped.",
  params: ContainerPath,
  body: ContainerUpdate,
  bodyMedia: [MERGE_PATCH_MEDIA],
  answer: {
    status: 200,
    description: "The container, as it is now wished.",
    schema: Container,
    example: { ...container, network: { egress: ["192.0.2.0/24"], egress_bytes_per_second: 12_500_000 } },
  },
  errors: ["action_not_allowed"],
  example: { params: { id: CONTAINER_ID }, body: { network: { egress: ["192.0.2.0/24"], ingress_bytes_per_second: null } } },
  async handle(c, { params, body, idempotency }) {
    const answer = await tenantOf(c).updateContainer(callOf(c, idempotency), params.id, body)
    return { status: 200, body: answer.body, headers: replayHeaders(answer.replayed) }
  },
})
