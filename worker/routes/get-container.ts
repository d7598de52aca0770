import { Container } from "../../schema/api.ts"
import { container, CONTAINER_ID } from "../examples.ts"
import { callerOf, jsonText, operation, tenantOf } from "../operation.ts"
import { ContainerPath } from "../references.ts"

export const getContainer = operation({
  id: "getContainer",
  method: "get",
  path: "/v1/containers/{id}",
  tag: "Containers",
  access: "containers:read",
  admission: "by-its-call",
  summary: "Read a container",
  description:
    "Its wish, its status with the reason and what may be done next, and its latest run with the timings of each step.",
  params: ContainerPath,
  answer: { status: 200, description: "The container.", schema: Container, example: container },
  errors: [],
  example: { params: { id: CONTAINER_ID } },
  handle: async (c, { params }) => jsonText(c, await tenantOf(c).getContainerJson(callerOf(c), params.id)),
})
