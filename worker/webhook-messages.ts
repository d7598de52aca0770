/** What receivers are sent, for the `webhooks` part of the API's description: every type of event, when it comes, an example. */
import type { RouteConfig } from "@hono/zod-openapi"
import { z } from "zod"
import { EVENT_TYPES, type EventData, type EventType } from "../schema/api.ts"
import { DELIVERY_TIMEOUT_SECONDS, WebhookMessage } from "../schema/webhooks.ts"
import { container, event, EVENT_ID, TENANT_ID, WEBHOOK_ID } from "./examples.ts"

type Told = readonly [comes: string, data: z.input<typeof EventData>]

const reason = (code: string, message: string) => ({ code, message })
const exit = { code: 137, signal: "SIGKILL", oom_killed: true, by: "process" as const, log_tail: [] }
const image_digest = container.run?.image_digest ?? ""
const NEXT = "2026-11-23T18:30:02.000Z"

const TOLD: Record<EventType, Told> = {
  "container.created": ["A container was created.", { image: container.image }],
  "container.scheduling": ["A run was made and looks for a node.", { image: container.image, attempt: 1 }],
  "container.pulling": ["Its node fetches the image.", { attempt: 1 }],
  "container.starting": ["Its node starts the process.", { attempt: 1, image_digest }],
  "container.running": ["The process runs.", { attempt: 1, image_digest }],
  "container.paused": ["It was paused.", { attempt: 1 }],
  "container.unpaused": ["It goes on after a pause.", { attempt: 1 }],
  "container.stopping": ["It is being stopped.", { attempt: 1 }],
  "container.exited": [
    "A run ended, by whose doing and how.",
    { reason: reason("out_of_memory", "The process was killed for want of memory."), exit, attempt: 1, image_digest },
  ],
  "container.lost": [
    "A run's node was lost.",
    { reason: reason("lease_expired", "Its node fell silent."), exit: null, attempt: 1 },
  ],
  "container.removed": ["The container is gone.", {}],
  "container.restart_scheduled": ["The restart policy starts it again.", { next_run_at: NEXT, attempt: 1 }],
  "container.unplaceable": ["No node fits now; it waits.", { reason: reason("no_capacity", "No node fits."), attempt: 1 }],
  "container.deadline_passed": [
    "A step took too long, and the run is replaced.",
    { reason: reason("deadline_passed", "Preparing took longer than 600 seconds."), attempt: 1 },
  ],
  "container.updated": ["A running container's settings were changed.", { network: { egress: "open" } }],
  "container.gave_up": [
    "It was tried so often in vain that nothing more is tried.",
    { reason: reason("gave_up", "Five runs in a row never came to run."), attempt: 5 },
  ],
  "container.draining": [
    "Its node is being emptied.",
    { reason: reason("node_drained", "Its node is being emptied."), attempt: 1 },
  ],
  "container.unreachable": [
    "Its node is cut off, and the run goes on unseen.",
    { reason: reason("node_unreachable", "Its node is cut off."), attempt: 1 },
  ],
  "container.reachable": ["Its node is back, and the run with it.", { attempt: 1 }],
  "container.isolation_deviated": [
    "It is less confined than its profile promises.",
    { reason: reason("isolation_deviated", "A fence is missing."), attempt: 1 },
  ],
  "container.accelerator_lost": [
    "A device that it holds is gone.",
    { reason: reason("accelerator_lost", "A device is gone."), attempt: 1 },
  ],
  "container.disk_full": ["It used up its disk space.", { reason: reason("disk_full", "Its disk is full."), attempt: 1 }],
  "container.logs_throttled": [
    "It writes more log than it may.",
    { reason: reason("logs_throttled", "Lines are held up."), attempt: 1 },
  ],
  "webhook.disabled": [
    "Another endpoint of yours was disabled.",
    { reason: reason("webhook_disabled", "The receiver answered 410 Gone."), webhook_id: WEBHOOK_ID },
  ],
  "webhook.test": ["You asked for a test.", { webhook_id: WEBHOOK_ID }],
}

const Headers = z.object({
  "webhook-id": z.string().meta({
    description: "The event's id, the same over all attempts: what you have had, you know by it.",
    examples: [EVENT_ID],
  }),
  "webhook-timestamp": z
    .string()
    .meta({ description: "When this attempt was made, Unix seconds. Refuse what is minutes old.", examples: ["1795458601"] }),
  "webhook-signature": z.string().meta({
    description:
      "Signatures of `id.timestamp.body`, with spaces between: `v1,` HMAC-SHA-256, `v1a,` Ed25519; one that verifies is enough.",
    examples: ["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="],
  }),
})

/** The operations that a receiver implements. */
export function webhookMessages(): (RouteConfig & { readonly path: string })[] {
  return EVENT_TYPES.map((type) => {
    const [description, data] = TOLD[type]
    const mine = type.startsWith("webhook.")
    const container_id = mine ? null : event.container_id
    const place = {
      tenant_id: TENANT_ID,
      container_id,
      container_name: mine ? null : event.container_name,
      run_id: mine ? null : event.run_id,
    }
    const example = { type, timestamp: event.time, data: { ...place, cursor: event.cursor, ...data } }
    return {
      method: "post",
      path: type,
      operationId: type,
      tags: ["Webhooks"],
      summary: description,
      description: `${description} Standard Webhooks 1.0.`,
      security: [],
      request: {
        headers: Headers,
        body: { required: true, content: { "application/json": { schema: WebhookMessage, example } } },
      },
      responses: {
        "2XX": { description: `Accepted, within ${DELIVERY_TIMEOUT_SECONDS} seconds.` },
        410: { description: "Not wanted any more: the endpoint is disabled." },
      },
    }
  })
}
