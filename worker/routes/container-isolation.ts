import { AppError } from "../../schema/errors.ts"
import { Isolation } from "../../schema/isolation.ts"
import { CONTAINER_ID, isolation } from "../examples.ts"
import { callerOf, operation, tenantOf } from "../operation.ts"
import { ContainerPath } from "../references.ts"

export const containerIsolation = operation({
  id: "getContainerIsolation",
  method: "get",
  path: "/v1/containers/{id}/isolation",
  tag: "Containers",
  access: "containers:read",
  admission: "by-its-call",
  summary: "Read what confines a container",
  description:
    "What the kernel enforces on the live process, read from outside of it: namespaces, id maps, capabilities, filter, mounts and " +
    "limits; not what was asked for. `verdict` says whether that is what the profile promises.",
  params: ContainerPath,
  answer: { status: 200, description: "What was read.", schema: Isolation, example: isolation },
  errors: ["action_not_allowed", "node_unreachable"],
  example: { params: { id: CONTAINER_ID } },
  async handle(c, { params }) {
    const tenant = tenantOf(c)
    const caller = callerOf(c)
    const { status, run } = await tenant.getContainer(caller, params.id)
    if (!run || (status !== "running" && status !== "paused"))
      throw new AppError("action_not_allowed", `The container is ${status}; there is a process to look at only while it runs.`)
    const { node_id } = await tenant.locate(caller, params.id, run.id)
    const text = await c.var.services.peers.node(node_id).command(run.id, { kind: "isolation" })
    return { status: 200, body: Isolation.parse(JSON.parse(text)) }
  },
})
