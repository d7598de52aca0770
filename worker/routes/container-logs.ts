import { LogsQuery } from "../../schema/api.ts"
import type { LogOptions } from "../../schema/protocol.ts"
import { CONTAINER_ID } from "../examples.ts"
import type { LineMap } from "../line-streams.ts"
import { mapLines } from "../line-streams.ts"
import { parseSince, plainText, serverSentEntry } from "../log-forms.ts"
import { callerOf, operation, tenantOf } from "../operation.ts"
import { ContainerPath } from "../references.ts"
import { EVENT_STREAM, lastEventId, SSE_KEEPALIVE, SSE_OPENING, wantsEventStream } from "../server-sent-events.ts"
import { invalid } from "../validation.ts"

/** Plain text has no way to show life, so a silent follower is let go after an hour. */
const IDLE_FOLLOW_SECONDS = 3600

/** Where the platform compresses plain text for clients that take it, lines would wait in the compressor. */
const AS_IT_COMES = { "content-encoding": "identity" }

export const containerLogs = operation({
  id: "getContainerLogs",
  method: "get",
  path: "/v1/containers/{id}/logs",
  tag: "Containers",
  access: "logs:read",
  admission: "by-its-call",
  summary: "Read a container's output",
  description:
    "Plain text, or server-sent events when you accept `text/event-stream`: then each entry's id is a cursor, and a client that " +
    "sends it back as `Last-Event-ID` goes on after it. With `follow` the answer stays open and ends when the run has; " +
    "plain text that stays silent for an hour ends as well.",
  params: ContainerPath,
  query: LogsQuery,
  answer: {
    status: 200,
    description: "The lines, oldest first.",
    media: {
      "text/plain": "listening on :8080\n",
      [EVENT_STREAM]:
        'id: 1:42\nevent: stdout\ndata: {"time":"2026-11-23T18:30:01.500000000Z","stream":"stdout","text":"listening on :8080",' +
        '"partial":false,"run_id":"run_01kaz3v8q0f1x8t1m5y7c2d9e4"}\n\n',
    },
  },
  errors: ["action_not_allowed", "node_unreachable"],
  example: { params: { id: CONTAINER_ID }, query: "follow=true&tail=100" },
  async handle(c, { params, query }) {
    const events = wantsEventStream(c.req.header("accept"))
    const options: LogOptions = {
      follow: query.follow ?? false,
      since_ms: sinceOf(query.since, c.var.services.clock.now()),
      tail: query.tail === "all" ? null : query.tail,
      streams: query.stream ? [query.stream] : ["stdout", "stderr"],
      after: events ? lastEventId(c) : null,
    }
    const { node_id, run_ids } = await tenantOf(c).locate(callerOf(c), params.id, query.run ?? null)
    const headers = {
      "content-type": events ? EVENT_STREAM : "text/plain; charset=utf-8",
      ...(options.follow && AS_IT_COMES),
    }
    if (run_ids.length === 0 || c.req.raw.method === "HEAD") return c.body("", 200, headers)
    const source = await c.var.services.peers.node(node_id).openLogs(run_ids, options)
    return c.body(mapLines(source, formOf(events, options.follow, query.timestamps ?? false)), 200, headers)
  },
})

function sinceOf(since: string | undefined, nowMs: number): number | null {
  if (since === undefined) return null
  const ms = parseSince(since, nowMs)
  if (ms === undefined)
    throw invalid([{ pointer: "?since", message: "must be an RFC 3339 time, or seconds ago such as 90 or 90s" }])
  return ms
}

function formOf(events: boolean, follow: boolean, timestamps: boolean): LineMap {
  if (events) return { map: serverSentEntry, opening: SSE_OPENING, ...(follow && { keepalive: SSE_KEEPALIVE }) }
  return { map: plainText({ timestamps }), ...(follow && { idleSeconds: IDLE_FOLLOW_SECONDS }) }
}
