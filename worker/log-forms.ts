/** The forms in which a client reads log entries, and how it says from when on. Pure. */
import { LogEntry } from "../schema/protocol.ts"
import { formatServerSentEvent } from "./server-sent-events.ts"

/**
 * Plain text, both streams in the order in which they were written. Parts of one long line are joined; when a line of the other
 * stream comes between, it begins on a line of its own.
 */
export function plainText(options: { timestamps: boolean }): (line: string) => string {
  let open: string | null = null
  return (line) => {
    const { run_id, time, stream, partial, text } = LogEntry.parse(JSON.parse(line))
    const source = `${run_id} ${stream}`
    const goesOn = open === source
    const before = open !== null && !goesOn ? "\n" : ""
    open = partial ? source : null
    return `${before}${options.timestamps && !goesOn ? `${time} ` : ""}${text}${partial ? "" : "\n"}`
  }
}

export function serverSentEntry(line: string): string {
  const { run_id, time, stream, partial, text, cursor } = LogEntry.parse(JSON.parse(line))
  return formatServerSentEvent({ id: cursor, event: stream, data: { time, stream, text, partial, run_id } })
}

/** Unix milliseconds of an RFC 3339 time, or of so many seconds ago (`90`, `90s`); undefined when it is neither. */
export function parseSince(text: string, nowMs: number): number | undefined {
  const ago = /^(\d{1,12}(?:\.\d{1,3})?)s?$/.exec(text)?.[1]
  if (ago !== undefined) return Math.max(0, Math.round(nowMs - Number(ago) * 1000))
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i.test(text)) return undefined
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? undefined : ms
}
