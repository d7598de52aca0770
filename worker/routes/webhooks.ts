/** Endpoints that are told of a tenant's events, and what became of each delivery. */
import { z } from "zod"
import { page } from "../../schema/api.ts"
import { EventId, WebhookId } from "../../schema/ids.ts"
import {
  DeliveriesQuery, Delivery, DELIVERY_RETENTION_SECONDS, DELIVERY_TIMEOUT_SECONDS, MAX_WEBHOOKS, Webhook, WebhookCreate,
  WebhookReplay, WebhookRotate, WebhookSecret, WebhookUpdate,
} from "../../schema/webhooks.ts" // prettier-ignore
import { delivery, EVENT_ID, webhook, WEBHOOK_ID } from "../examples.ts"
import { MERGE_PATCH_MEDIA, operation, tenantOf } from "../operation.ts"

const WebhookPath = z.object({ id: WebhookId.meta({ examples: [WEBHOOK_ID] }) })
const params = { id: WEBHOOK_ID }
const secret = { webhook, secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD2sAxKTcVLnA=", previous_until: null }
const retentionDays = DELIVERY_RETENTION_SECONDS / 86_400

export const createWebhook = operation({
  id: "createWebhook",
  method: "post",
  path: "/v1/webhooks",
  tag: "Webhooks",
  access: "webhooks:write",
  idempotency: "directory",
  summary: "Create a webhook",
  description:
    "From now on, each event that it selects is POSTed to the URL as Standard Webhooks 1.0 says: at least once, in order, signed " +
    `with HMAC-SHA-256 (\`v1\`) and Ed25519 (\`v1a\`). Answer 2xx within ${DELIVERY_TIMEOUT_SECONDS} seconds; anything else is ` +
    "tried again, ten times over 75 hours. 410 disables the endpoint. Private and local addresses are refused.",
  body: WebhookCreate,
  answer: {
    status: 201,
    description: "The webhook and its secret, which is shown this once.",
    schema: WebhookSecret,
    example: secret,
    headers: { Location: "Where to read the webhook." },
  },
  errors: ["quota_exceeded"],
  example: {
    body: { url: "https://hooks.example.com/berth", types: ["container.exited", "container.lost"], labels: { app: "web" } },
  },
  async handle(c, { body, ids }) {
    const id = ids.make("whk")
    const made = await tenantOf(c).createWebhook(id, body)
    return { status: 201, body: made, headers: { location: `/v1/webhooks/${id}` } }
  },
})

export const listWebhooks = operation({
  id: "listWebhooks",
  method: "get",
  path: "/v1/webhooks",
  tag: "Webhooks",
  access: "webhooks:write",
  summary: "List webhooks",
  description: `Oldest first, all on one page: there are ${MAX_WEBHOOKS} at most.`,
  answer: {
    status: 200,
    description: "The webhooks.",
    schema: page(Webhook, "WebhookPage"),
    example: { items: [webhook], next_cursor: null },
  },
  errors: [],
  example: {},
  handle: async (c) => ({ status: 200, body: await tenantOf(c).listWebhooks() }),
})

export const getWebhook = operation({
  id: "getWebhook",
  method: "get",
  path: "/v1/webhooks/{id}",
  tag: "Webhooks",
  access: "webhooks:write",
  summary: "Read a webhook",
  description: "How it is set up, whether it is enabled, and since when it fails.",
  params: WebhookPath,
  answer: { status: 200, description: "The webhook.", schema: Webhook, example: webhook },
  errors: ["not_found"],
  example: { params },
  handle: async (c, { params: { id } }) => ({ status: 200, body: await tenantOf(c).getWebhook(id) }),
})

export const updateWebhook = operation({
  id: "updateWebhook",
  method: "patch",
  path: "/v1/webhooks/{id}",
  tag: "Webhooks",
  access: "webhooks:write",
  idempotency: "directory",
  summary: "Change a webhook",
  description:
    "A JSON Merge Patch (RFC 7396). `enabled: true` takes a disabled one up again: what happened meanwhile is delivered, as far " +
    "as events are kept.",
  params: WebhookPath,
  body: WebhookUpdate,
  bodyMedia: [MERGE_PATCH_MEDIA],
  answer: { status: 200, description: "The webhook, as it is now.", schema: Webhook, example: webhook },
  errors: ["not_found"],
  example: { params, body: { types: ["container.*"] } },
  handle: async (c, { params: { id }, body }) => ({ status: 200, body: await tenantOf(c).updateWebhook(id, body) }),
})

export const removeWebhook = operation({
  id: "removeWebhook",
  method: "delete",
  path: "/v1/webhooks/{id}",
  tag: "Webhooks",
  access: "webhooks:write",
  idempotency: "directory",
  summary: "Remove a webhook",
  description: "Nothing more is sent to it, and its deliveries are forgotten.",
  params: WebhookPath,
  answer: { status: 204, description: "It is gone." },
  errors: ["not_found"],
  example: { params },
  async handle(c, { params: { id } }) {
    await tenantOf(c).removeWebhook(id)
    return { status: 204, body: null }
  },
})

export const rotateWebhookSecret = operation({
  id: "rotateWebhookSecret",
  method: "post",
  path: "/v1/webhooks/{id}/rotate-secret",
  tag: "Webhooks",
  access: "webhooks:write",
  idempotency: "directory",
  summary: "Rotate a webhook's keys",
  description:
    "Makes a new secret and a new key pair. Until the overlap ends each message carries the signatures of the old ones too, so " +
    "that no receiver misses one while it is told of the new.",
  params: WebhookPath,
  body: WebhookRotate,
  bodyOptional: true,
  answer: {
    status: 200,
    description: "The webhook and its new secret, which is shown this once.",
    schema: WebhookSecret,
    example: secret,
  },
  errors: ["not_found"],
  example: { params, body: { overlap_seconds: 3600 } },
  handle: async (c, { params: { id }, body }) => ({
    status: 200,
    body: await tenantOf(c).rotateWebhookSecret(id, body.overlap_seconds),
  }),
})

const Tested = z.object({ event_id: EventId }).meta({ id: "WebhookTest" })

export const testWebhook = operation({
  id: "testWebhook",
  method: "post",
  path: "/v1/webhooks/{id}/test",
  tag: "Webhooks",
  access: "webhooks:write",
  idempotency: "directory",
  summary: "Send a test event",
  description:
    "Writes an event `webhook.test` that goes to this endpoint alone, whatever types it selects. Read how it went in its deliveries.",
  params: WebhookPath,
  answer: { status: 200, description: "The event.", schema: Tested, example: { event_id: EVENT_ID } },
  errors: ["not_found", "action_not_allowed"],
  example: { params },
  handle: async (c, { params: { id } }) => ({ status: 200, body: await tenantOf(c).testWebhook(id) }),
})

export const listDeliveries = operation({
  id: "listDeliveries",
  method: "get",
  path: "/v1/webhooks/{id}/deliveries",
  tag: "Webhooks",
  access: "webhooks:write",
  summary: "Read a webhook's deliveries",
  description: `Newest event first, each with its attempts and the receiver's answers. Kept for ${retentionDays} days.`,
  params: WebhookPath,
  query: DeliveriesQuery,
  answer: {
    status: 200,
    description: "One page.",
    schema: page(Delivery, "DeliveryPage"),
    example: { items: [delivery], next_cursor: null },
  },
  errors: ["not_found"],
  example: { params, query: "state=failed" },
  async handle(c, { params: { id }, query }) {
    const { cursor = null, state = null, limit } = query
    return { status: 200, body: await tenantOf(c).listDeliveries(id, { cursor, state, limit }) }
  },
})

const Replayed = z
  .object({ after: z.string(), until: z.string().meta({ description: "Events in between are delivered again." }) })
  .meta({ id: "WebhookReplayed" })

export const replayWebhook = operation({
  id: "replayWebhook",
  method: "post",
  path: "/v1/webhooks/{id}/replay",
  tag: "Webhooks",
  access: "webhooks:write",
  idempotency: "directory",
  summary: "Deliver events again",
  description:
    "One event, a range, or all since a cursor; those that the endpoint selects, in order, beside new ones. Each keeps its " +
    "`webhook-id`, by which a receiver knows what it has had.",
  params: WebhookPath,
  body: WebhookReplay,
  answer: { status: 200, description: "The range.", schema: Replayed, example: { after: "1041", until: "1207" } },
  errors: ["not_found", "action_not_allowed"],
  example: { params, body: { after: "0" } },
  handle: async (c, { params: { id }, body }) => ({ status: 200, body: await tenantOf(c).replayWebhook(id, body) }),
})

export const webhookOperations = [
  createWebhook,
  listWebhooks,
  getWebhook,
  updateWebhook,
  removeWebhook,
  rotateWebhookSecret,
  testWebhook,
  listDeliveries,
  replayWebhook,
]
