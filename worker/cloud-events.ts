/** Events as CloudEvents 1.0 in JSON: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md. */
import type { Event } from "../schema/api.ts"
import type { TenantId } from "../schema/ids.ts"

/** One event; what a caller accepts to have any of these forms. */
export const CLOUD_EVENT_MEDIA = "application/cloudevents+json"
/** A page of them is a batch, which is an array. */
export const CLOUD_EVENTS_BATCH_MEDIA = "application/cloudevents-batch+json"

export const wantsCloudEvents = (accept: string | undefined): boolean =>
  accept?.includes(CLOUD_EVENT_MEDIA) === true || accept?.includes(CLOUD_EVENTS_BATCH_MEDIA) === true

/** `source` and `id` together are unique, so a consumer knows by them what it has had. */
export function cloudEventOf(issuer: string, tenant: TenantId, event: Event) {
  const { id, type, time, container_id, container_name, run_id, cursor, data } = event
  return {
    specversion: "1.0",
    id,
    source: `${issuer}/tenants/${tenant}`,
    type,
    time,
    ...(container_id !== null && { subject: container_id }),
    datacontenttype: "application/json",
    /** An extension attribute: where to read on from. */
    cursor,
    data: { container_id, container_name, run_id, ...data },
  }
}
