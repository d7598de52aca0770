/**
 * Endpoints, and the deliveries to them. What goes over the wire is Standard Webhooks 1.0: headers `webhook-id`,
 * `webhook-timestamp` and `webhook-signature`, a JSON body of `type`, `timestamp` and `data`.
 * Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
import { z } from "zod"
import { DEFAULT_PAGE, EVENT_TYPES, EventData, MAX_PAGE } from "./api.ts"
import { Labels } from "./container.ts"
import { ContainerId, EventId, RunId, TenantId, WebhookId } from "./ids.ts"

/** Of one tenant. Each takes a connection of its own while it is being spoken to. */
export const MAX_WEBHOOKS = 20
/** What was delivered, and how, can be read this long. */
export const DELIVERY_RETENTION_SECONDS = 7 * 24 * 3600
/** A receiver that has not answered by then has not accepted it. */
export const DELIVERY_TIMEOUT_SECONDS = 15
/** As much of a receiver's answer is kept. */
export const MAX_ANSWER_BYTES = 1024

const Time = z.iso.datetime().meta({ description: "RFC 3339, UTC." })

const MAX_URL = 2048
const HTTP_URL = z.url({ protocol: /^https?$/ }).max(MAX_URL)

/** Exact types, or all of a kind: `container.*`. */
const KINDS = [...new Set(EVENT_TYPES.map((type) => `${type.slice(0, type.indexOf("."))}.*` as const))]
const EventFilter = z.enum([...EVENT_TYPES, ...KINDS])

const FIELDS = {
  url: HTTP_URL.meta({ description: "Where to POST to. https, unless the operator allows the address without." }),
  types: z
    .array(EventFilter)
    .max(EVENT_TYPES.length)
    .meta({ description: "Types of events, or all of a kind such as `container.*`; none for all." }),
  labels: Labels.meta({ description: "Only events of containers that have all of these labels." }),
  description: z.string().max(256),
}

export const WebhookCreate = z
  .strictObject({
    url: FIELDS.url,
    types: FIELDS.types.default([]),
    labels: FIELDS.labels.default({}),
    description: FIELDS.description.default(""),
  })
  .meta({ id: "WebhookCreate" })
export type WebhookCreate = z.infer<typeof WebhookCreate>

/** A field left out stays as it is (RFC 7396). */
export const WebhookUpdate = z
  .strictObject({
    ...FIELDS,
    enabled: z.boolean().meta({ description: "true takes a disabled endpoint up again, from where it stopped." }),
  })
  .partial()
  .meta({ id: "WebhookUpdate" })
export type WebhookUpdate = z.infer<typeof WebhookUpdate>

export const Webhook = z
  .object({
    id: WebhookId,
    url: z.string(),
    types: z.array(EventFilter),
    labels: Labels,
    description: z.string(),
    enabled: z.boolean(),
    disabled_reason: z.string().nullable(),
    public_key: z.string().meta({ description: "Verifies the `v1a` signatures (Ed25519), with no secret: `whpk_` and base64." }),
    failing_since: Time.nullable().meta({ description: "Of the first of the attempts that failed in a row." }),
    last_success_at: Time.nullable(),
    created_at: Time,
  })
  .meta({ id: "Webhook" })
export type Webhook = z.infer<typeof Webhook>

export const WebhookSecret = z
  .object({
    webhook: Webhook,
    secret: z
      .string()
      .meta({ description: "Verifies the `v1` signatures (HMAC-SHA-256): `whsec_` and base64. Shown this once." }),
    previous_until: Time.nullable().meta({ description: "Until then each message is signed with the previous keys as well." }),
  })
  .meta({ id: "WebhookSecret" })
export type WebhookSecret = z.infer<typeof WebhookSecret>

export const WebhookRotate = z
  .strictObject({
    overlap_seconds: z
      .int()
      .min(0)
      .max(7 * 86_400)
      .default(86_400)
      .meta({ description: "How long messages are signed with the old keys as well as the new." }),
  })
  .meta({ id: "WebhookRotate" })

export const DELIVERY_STATES = ["pending", "delivered", "failed"] as const
export type DeliveryState = (typeof DELIVERY_STATES)[number]

export const DeliveryAttempt = z.object({
  at: Time,
  status_code: z.int().nullable().meta({ description: "Null when no answer came." }),
  error: z.string().nullable(),
  latency_ms: z.int(),
  answer: z.string().meta({ description: `The first ${MAX_ANSWER_BYTES} bytes of the answer's body.` }),
})

export const Delivery = z
  .object({
    event_id: EventId.meta({ description: "The message's `webhook-id`, the same over all attempts and replays." }),
    type: z.enum(EVENT_TYPES),
    state: z.enum(DELIVERY_STATES).meta({ description: "failed: given up; replay it once the receiver works." }),
    next_attempt_at: Time.nullable(),
    attempts: z.array(DeliveryAttempt).meta({ description: "Oldest first." }),
    cursor: z.string(),
  })
  .meta({ id: "Delivery" })
export type Delivery = z.infer<typeof Delivery>

const CURSOR = z.string().max(64)
export const DeliveriesQuery = z.strictObject({
  state: z.enum(DELIVERY_STATES).optional(),
  cursor: CURSOR.optional(),
  limit: z.coerce.number().pipe(z.int().min(1).max(MAX_PAGE)).default(DEFAULT_PAGE),
})

export const WebhookReplay = z
  .strictObject({
    event_id: EventId.optional().meta({ description: "One event." }),
    after: CURSOR.optional().meta({ description: "All events after this cursor or event id; the oldest kept: `0`." }),
    until: CURSOR.optional().meta({ description: "Up to and with this cursor or event id; without it up to now." }),
  })
  .refine(({ event_id, after, until }) => (event_id === undefined) !== (after === undefined && until === undefined), {
    message: "needs either event_id, or after with or without until",
  })
  .refine(({ after, until }) => until === undefined || after !== undefined, { path: ["until"], message: "needs after as well" })
  .meta({ id: "WebhookReplay" })
export type WebhookReplay = z.infer<typeof WebhookReplay>

/** What a receiver gets. Thin: what has become of the container since then is read from the API. */
export const WebhookMessage = z
  .object({
    type: z.enum(EVENT_TYPES),
    timestamp: Time.meta({ description: "When it happened; `webhook-timestamp` says when it was sent." }),
    data: EventData.extend({
      tenant_id: TenantId,
      container_id: ContainerId.nullable(),
      container_name: z.string().nullable(),
      run_id: RunId.nullable(),
      cursor: z.string().meta({ description: "Its place in `/v1/events`; greater is later." }),
    }),
  })
  .meta({ id: "WebhookMessage" })
export type WebhookMessage = z.infer<typeof WebhookMessage>
