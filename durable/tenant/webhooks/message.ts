/** Which events concern an endpoint, and what it is told of them. Pure. */
import type { Event } from "../../../schema/api.ts"
import type { TenantId, WebhookId } from "../../../schema/ids.ts"
import type { WebhookMessage } from "../../../schema/webhooks.ts"

export interface Selector {
  readonly id: WebhookId
  readonly types: readonly string[]
  readonly labels: Readonly<Record<string, string>>
}

/** `labels` are those of the event's container; null when it has none or is known no longer. */
export function concerns(endpoint: Selector, event: Event, labels: Readonly<Record<string, string>> | null): boolean {
  // An endpoint's own news are for its owner's eyes: a test goes to the one that is tested, an end to all but the ended.
  if (event.type === "webhook.test") return event.data.webhook_id === endpoint.id
  if (event.data.webhook_id === endpoint.id) return false
  const { types } = endpoint
  if (types.length > 0 && !types.includes(event.type) && !types.includes(`${event.type.split(".")[0]}.*`)) return false
  return Object.entries(endpoint.labels).every(([key, value]) => labels?.[key] === value)
}

/** The body. The last log lines of an exit stay here: they are a tenant's data, and the message is to be thin. */
export function messageOf(tenant_id: TenantId, event: Event): WebhookMessage {
  const { type, time, container_id, container_name, run_id, cursor } = event
  const { exit, ...data } = event.data
  const thin = exit ? { exit: { ...exit, log_tail: [] } } : exit === null ? { exit } : {}
  return { type, timestamp: time, data: { tenant_id, container_id, container_name, run_id, cursor, ...data, ...thin } }
}
