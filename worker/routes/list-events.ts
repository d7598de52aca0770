import { Event, EVENT_TYPES, EventsQuery, type Page, page } from "../../schema/api.ts"
import { CLOUD_EVENTS_BATCH_MEDIA, cloudEventOf, wantsCloudEvents } from "../cloud-events.ts"
import type { AppContext } from "../env.ts"
import { event, TENANT_ID } from "../examples.ts"
import { mapLines } from "../line-streams.ts"
import type { TenantId } from "../../schema/ids.ts"
import { callerOf, operation, tenantIdOf, tenantOf } from "../operation.ts"
import {
  EVENT_STREAM,
  formatServerSentEvent,
  lastEventId,
  SSE_KEEPALIVE,
  SSE_OPENING,
  wantsEventStream,
} from "../server-sent-events.ts"
import { invalid } from "../validation.ts"

const KINDS = new Set<string>(EVENT_TYPES.map((type) => `${type.split(".")[0]}.*`))
const TYPES = new Set<string>(EVENT_TYPES)

export const listEvents = operation({
  id: "listEvents",
  method: "get",
  path: "/v1/events",
  tag: "Events",
  access: "events:read",
  admission: "by-its-call",
  summary: "Read or follow events",
  description:
    "A page of events, oldest first; `next_cursor` is null at the end. With `follow`, or when you accept `text/event-stream`, " +
    "the answer is a stream of server-sent events that stays open; a client that sends `Last-Event-ID` goes on after that event. " +
    "Accept `application/cloudevents+json` for CloudEvents 1.0, a page of them as a batch with a link to the next. " +
    "Events are kept for 30 days, and each is written in the transaction of the change that it tells of: none is missing.",
  query: EventsQuery,
  answer: {
    status: 200,
    description: "One page, or the stream.",
    schema: page(Event, "EventPage"),
    example: { items: [event], next_cursor: null },
    media: {
      [CLOUD_EVENTS_BATCH_MEDIA]: JSON.stringify([
        cloudEventOf("https://berth.example", TENANT_ID as TenantId, Event.parse(event)),
      ]),
      [EVENT_STREAM]: formatServerSentEvent({ id: event.cursor, event: event.type, data: event }),
    },
  },
  errors: [],
  example: { query: "types=container.*&limit=50" },
  async handle(c, { query }) {
    const stream = query.follow === true || wantsEventStream(c.req.header("accept"))
    const after = (stream ? lastEventId(c) : null) ?? query.after ?? null
    const asCloudEvents = wantsCloudEvents(c.req.header("accept"))
    const formOf = (told: Event) => (asCloudEvents ? cloudEventOf(c.env.ISSUER, tenantIdOf(c), told) : told)
    const request = { after, types: typesOf(query.types), container: query.container ?? null, limit: query.limit }
    if (!stream) {
      const read = await tenantOf(c).listEvents(callerOf(c), request)
      return asCloudEvents ? batch(c, read, formOf) : { status: 200, body: read }
    }
    const headers = { "content-type": EVENT_STREAM }
    if (c.req.raw.method === "HEAD") {
      await tenantOf(c).admit(callerOf(c))
      return c.body("", 200, headers)
    }
    const source = await tenantOf(c).followEvents(callerOf(c), request)
    return c.body(
      mapLines(source, { map: (line) => serverSent(line, formOf), opening: SSE_OPENING, keepalive: SSE_KEEPALIVE }),
      200,
      headers,
    )
  },
})

function typesOf(text: string | undefined): string[] {
  const types = [...new Set((text ?? "").split(",").filter((type) => type !== ""))]
  const unknown = types.find((type) => !TYPES.has(type) && !KINDS.has(type))
  if (unknown !== undefined) throw invalid([{ pointer: "?types", message: `${unknown} is not a type of event` }])
  return types
}

function serverSent(line: string, formOf: (event: Event) => object): string {
  const told = Event.parse(JSON.parse(line))
  return formatServerSentEvent({ id: told.cursor, event: told.type, data: formOf(told) })
}

/** A batch has no place for a cursor; where the next page is stands in a link (RFC 8288). */
function batch(c: AppContext, { items, next_cursor }: Page<Event>, formOf: (event: Event) => object): Response {
  const next = new URL(c.req.url)
  next.searchParams.set("after", next_cursor ?? "")
  return c.body(JSON.stringify(items.map(formOf)), 200, {
    "content-type": CLOUD_EVENTS_BATCH_MEDIA,
    ...(next_cursor !== null && { link: `<${next.pathname}${next.search}>; rel="next"` }),
  })
}
