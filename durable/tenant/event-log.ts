/** The tenant's events, page by page or as they happen. */
import type { Event, Page } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { isId } from "../../schema/ids.ts"
import type { EventsRequest } from "../shared/rpc.ts"
import type { Reading } from "./reading.ts"
import type { EventFilter, TenantStore } from "./store.ts"
import { eventView, formatCursor, parseCursor } from "./view.ts"
import type { Watchers } from "./watchers.ts"

/** Events taken from SQLite at once for a reader that follows. */
const STREAM_PAGE = 100

export class EventLog {
  readonly #store: TenantStore
  readonly #watchers: Watchers
  readonly #reading: Reading

  constructor(store: TenantStore, watchers: Watchers, reading: Reading) {
    this.#store = store
    this.#watchers = watchers
    this.#reading = reading
  }

  page(request: EventsRequest): Page<Event> {
    const rows = this.#store.eventsAfter(this.#after(request.after), this.#filter(request), request.limit + 1)
    const items = rows.slice(0, request.limit).map(eventView)
    return { items, next_cursor: rows.length > request.limit ? (items.at(-1)?.cursor ?? null) : null }
  }

  /** NDJSON; ends when the reader cancels. */
  follow(request: EventsRequest): ReadableStream<Uint8Array> {
    const filter = this.#filter(request)
    let cursor = this.#after(request.after)
    return this.#watchers.stream(() => {
      const rows = this.#store.eventsAfter(cursor, filter, STREAM_PAGE)
      cursor = rows.at(-1)?.seq ?? cursor
      return rows.length === 0 ? undefined : rows.map((row) => `${JSON.stringify(eventView(row))}\n`).join("")
    })
  }

  #filter({ container, types }: EventsRequest): EventFilter {
    if (container === null) return { types, container }
    // Events outlive their container, so its id is enough where anything is known of it.
    if (isId("ctr", container) && this.#store.eventsAfter(0, { types: [], container }, 1).length > 0) return { types, container }
    return { types, container: this.#reading.resolve(container).id }
  }

  #after(after: string | null): number {
    return after === null ? 0 : this.seqOf(after)
  }

  /** The place of a cursor or an event's id. @throws AppError `invalid_field`. */
  seqOf(after: string): number {
    const seq = isId("evt", after) ? this.#store.seqOfEvent(after) : parseCursor(after)
    if (seq === undefined) {
      const message = `is neither a cursor such as ${formatCursor(1)} nor the id of an event that is kept`
      throw new AppError("invalid_field", `after ${message}.`, { errors: [{ pointer: "?after", message }] })
    }
    return seq
  }
}
