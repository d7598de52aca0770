/** Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html. Pure. */
import { invalid } from "./validation.ts"

export const EVENT_STREAM = "text/event-stream"
/** A comment: clients ignore it, and the write tells us whether the client is still there. */
export const SSE_KEEPALIVE = ": keepalive\n\n"
/** How long a client waits before it connects again, in milliseconds. */
export const SSE_OPENING = "retry: 1000\n\n"

/** `id` is what a client sends back as `Last-Event-ID`. */
export function formatServerSentEvent(event: { id: string; event: string; data: unknown }): string {
  if (/[\0\r\n]/.test(event.id + event.event)) throw new Error("an event's id or name has a line break")
  return `id: ${event.id}\nevent: ${event.event}\ndata: ${JSON.stringify(event.data)}\n\n`
}

export const wantsEventStream = (accept: string | undefined): boolean =>
  (accept ?? "").split(",").some((range) => range.split(";")[0]?.trim().toLowerCase() === EVENT_STREAM)

/** Cursors are shorter; what is longer was never one of ours. */
const MAX_EVENT_ID = 128

/** Where a client that was cut off wants to go on; null at its first call. @throws AppError `invalid_field`. */
export function lastEventId(c: { req: { header(name: string): string | undefined } }): string | null {
  const id = c.req.header("last-event-id") ?? ""
  if (id.length > MAX_EVENT_ID)
    throw invalid([{ pointer: "Last-Event-ID", message: "must be the id of an event of this stream" }])
  return id === "" ? null : id
}
