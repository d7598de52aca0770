/** The verbs that change what a container should do. They differ in a word and in what their body may say. */
import type { z } from "zod"
import type { ContainerAction } from "../../durable/shared/rpc.ts"
import { Container, KillBody, StopBody } from "../../schema/api.ts"
import type { ErrorCode } from "../../schema/errors.ts"
import { container, CONTAINER_ID } from "../examples.ts"
import { replayHeaders } from "../middleware/idempotency.ts"
import type { Operation } from "../operation.ts"
import { callOf, operation, tenantOf } from "../operation.ts"
import { ContainerPath } from "../references.ts"

interface Verb<B extends z.ZodType | undefined> {
  readonly kind: Exclude<ContainerAction["kind"], "remove">
  readonly summary: string
  readonly description: string
  readonly body?: B
  readonly bodyExample?: B extends z.ZodType ? z.input<B> : undefined
  /** Beside a status that does not allow it. */
  readonly errors: readonly ErrorCode[]
  /** What the container is afterwards, in the example. */
  readonly becomes: Pick<z.input<typeof Container>, "status" | "actions">
  /** It takes its time, and the caller may wait for the end of it. */
  readonly mayHold?: true
  readonly action: (body: B extends z.ZodType ? z.output<B> : undefined) => ContainerAction
}

const verb = <B extends z.ZodType | undefined = undefined>(it: Verb<B>): Operation =>
  operation({
    id: `${it.kind}Container`,
    method: "post",
    path: `/v1/containers/{id}/${it.kind}`,
    tag: "Containers",
    access: "containers:control",
    admission: "by-its-call",
    summary: it.summary,
    description: it.description,
    params: ContainerPath,
    body: it.body,
    bodyOptional: true,
    answer: {
      status: 200,
      description: "The container, as it is now.",
      schema: Container,
      example: { ...container, ...it.becomes },
    },
    mayHold: it.mayHold,
    errors: ["action_not_allowed", ...it.errors],
    example: { params: { id: CONTAINER_ID }, body: it.bodyExample as never },
    async handle(c, { params, body, idempotency, hold }) {
      const answer = await tenantOf(c).act(callOf(c, idempotency), params.id, it.action(body as never), hold.ms)
      return { status: 200, body: answer.body, headers: { ...hold.headers, ...replayHeaders(answer.replayed) } }
    },
  })

const STOPPING = { status: "stopping", actions: ["kill"] } satisfies Verb<undefined>["becomes"]

export const containerActions: readonly Operation[] = [
  verb({
    kind: "start",
    mayHold: true,
    errors: ["policy_refused", "quota_exceeded"],
    summary: "Start a container",
    description: "Begins a new run of a container that was only created, or whose run has ended.",
    becomes: { status: "scheduling", actions: ["stop", "restart", "kill"] },
    action: () => ({ kind: "start" }),
  }),
  verb({
    kind: "stop",
    mayHold: true,
    errors: [],
    summary: "Stop a container",
    description: "Sends the stop signal and, after the timeout, SIGKILL. The restart policy does not start it again.",
    body: StopBody,
    bodyExample: { timeout_seconds: 30 },
    becomes: STOPPING,
    action: (body) => ({ kind: "stop", timeout_seconds: body.timeout_seconds ?? null }),
  }),
  verb({
    kind: "restart",
    mayHold: true,
    errors: ["policy_refused", "quota_exceeded"],
    summary: "Restart a container",
    description: "Stops the run, if one is live, and begins a new one, on whichever node fits then.",
    body: StopBody,
    bodyExample: { timeout_seconds: 30 },
    becomes: STOPPING,
    action: (body) => ({ kind: "restart", timeout_seconds: body.timeout_seconds ?? null }),
  }),
  verb({
    kind: "kill",
    errors: ["node_unreachable"],
    summary: "Send a signal",
    description: "Sends a signal to the container's first process. What it does then is its own affair, but for SIGKILL.",
    body: KillBody,
    bodyExample: { signal: "SIGHUP" },
    becomes: { status: "running", actions: ["stop", "restart", "kill", "pause"] },
    action: (body) => ({ kind: "kill", signal: body.signal }),
  }),
  verb({
    kind: "pause",
    errors: [],
    summary: "Pause a container",
    description: "Freezes all of its processes where they are. They keep their memory and get no processor time.",
    becomes: { status: "paused", actions: ["unpause", "stop", "restart", "kill"] },
    action: () => ({ kind: "pause" }),
  }),
  verb({
    kind: "unpause",
    errors: [],
    summary: "Unpause a container",
    description: "Lets a paused container go on.",
    becomes: { status: "running", actions: ["stop", "restart", "kill", "pause"] },
    action: () => ({ kind: "unpause" }),
  }),
]
