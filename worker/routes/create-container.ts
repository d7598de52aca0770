import { Container, CreateQuery, DryRun } from "../../schema/api.ts"
import { ContainerCreate } from "../../schema/container.ts"
import { container } from "../examples.ts"
import { replayHeaders } from "../middleware/idempotency.ts"
import { callerOf, callOf, operation, tenantOf } from "../operation.ts"

export const createContainer = operation({
  id: "createContainer",
  method: "post",
  path: "/v1/containers",
  tag: "Containers",
  access: "containers:create",
  admission: "by-its-call",
  summary: "Create a container and start it",
  description:
    "Stores what you ask for and looks for a node. The answer comes at once; follow the container with `wait` or with events. " +
    "With `Prefer: wait=N` the answer itself comes when the container runs, or has ended. " +
    "When no node has room it waits in `scheduling`, with the reasons, and starts by itself once one has. " +
    "With `dry_run=true` nothing is created: the answer says where it would go now, and counts why not elsewhere.",
  query: CreateQuery,
  body: ContainerCreate,
  mayHold: true,
  answer: {
    status: 201,
    description: "The container, as it is now.",
    schema: Container,
    example: { ...container, status: "scheduling", actions: ["stop", "restart", "kill"], run: null },
    headers: { Location: "Where to read the container." },
    other: {
      status: 200,
      description: "With `dry_run=true`: where it would go.",
      schema: DryRun,
      example: {
        placeable: true,
        fitting_nodes: 3,
        node_region: "eu-1",
        refused: [{ reason: "has too little memory free", nodes: 2 }],
        warnings: [],
      },
    },
  },
  errors: ["name_taken", "policy_refused", "quota_exceeded"],
  example: {
    body: {
      image: "registry.example/team/app:1.4",
      name: "web-1",
      args: ["serve", "--port", "8080"],
      env: { LOG_LEVEL: "info" },
      resources: { cpus: 0.5, memory_bytes: 268_435_456, pids: 128 },
      restart: { policy: "on-failure", max_retries: 5 },
    },
  },
  async handle(c, { query, body, idempotency, hold }) {
    if (query.dry_run) return c.json(await tenantOf(c).dryRun(callerOf(c), body))
    const answer = await tenantOf(c).createContainer(callOf(c, idempotency), body, hold.ms)
    const location = `/v1/containers/${answer.body.id}`
    return { status: 201, body: answer.body, headers: { location, ...hold.headers, ...replayHeaders(answer.replayed) } }
  },
})
