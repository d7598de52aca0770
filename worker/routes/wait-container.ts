import { Container, WaitQuery } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { container, CONTAINER_ID } from "../examples.ts"
import { respondError } from "../errors.ts"
import { callerOf, operation, tenantOf } from "../operation.ts"
import { ContainerPath } from "../references.ts"

export const waitContainer = operation({
  id: "waitContainer",
  method: "get",
  path: "/v1/containers/{id}/wait",
  tag: "Containers",
  access: "containers:read",
  admission: "by-its-call",
  summary: "Wait for a status",
  description:
    "Answers as soon as the container has the status. When it cannot come to it any more by itself (it has ended for good, and " +
    "you wait for it to run) it answers 409 at once. After `timeout` seconds it answers 408; ask again to go on waiting. " +
    "Both have the container as it is then in the problem's member `container`. To wait for the exit of one run, and not of the " +
    "next that a restart policy begins, name it with `run`.",
  params: ContainerPath,
  query: WaitQuery,
  answer: { status: 200, description: "The status was reached.", schema: Container, example: container },
  errors: ["wait_timeout", "never_reached"],
  example: { params: { id: CONTAINER_ID }, query: "status=exited&timeout=60" },
  async handle(c, { params, query }) {
    const request = { status: query.status, run: query.run ?? null, timeout_ms: query.timeout * 1000 }
    const { reached, never, container: now } = await tenantOf(c).wait(callerOf(c), params.id, request)
    if (reached) return { status: 200, body: now }
    if (never) {
      const detail = `The container is ${now.status}; by itself it will not be ${query.status} any more.`
      return respondError(c, new AppError("never_reached", detail), { container: now })
    }
    const detail = `The container is ${now.status}, not yet ${query.status}, after ${query.timeout} seconds.`
    return respondError(c, new AppError("wait_timeout", detail), { container: now })
  },
})
