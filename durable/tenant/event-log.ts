/** The tenant's events, page by page or as they happen. */
import type { Event, Page } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { isId } from "../../schema/ids.ts"
import type { Caller, EventsRequest } from "../shared/rpc.ts"
import { pageOf } from "./caller.ts"
import type { Reading } from "./reading.ts"
import type { EventRow } from "./rows.ts"
import { isAbout } from "./selectors.ts"
import type { EventFilter } from "./event-store.ts"
import type { TenantStore } from "./store.ts"
import { eventView, formatCursor, parseCursor } from "./view.ts"
import type { Watchers } from "./watchers.ts"

/** Events taken from SQLite at once for a reader that follows. */
const STREAM_PAGE = 100

export interface EventLogPorts {
  readonly store: TenantStore
  readonly watchers: Watchers
  readonly reading: Reading
  /** @throws AppError once the caller's token was revoked, or has expired. */
  stay(caller: Caller): void
}

export class EventLog {
  readonly #store: TenantStore
  readonly #watchers: Watchers
  readonly #reading: Reading
  readonly #stay: EventLogPorts["stay"]

  constructor({ store, watchers, reading, stay }: EventLogPorts) {
    this.#store = store
    this.#watchers = watchers
    this.#reading = reading
    this.#stay = stay
  }

  page(caller: Caller, request: EventsRequest): Page<Event> {
    const filter = this.#filter(caller, request)
    const { rows, next } = pageOf(caller, { cursor: this.#after(request.after), limit: request.limit }, {
      read: (after, limit) => this.#store.events.after(after ?? 0, filter, limit),
      place: ({ seq }) => seq,
      sees: this.#sight(caller),
    }) // prettier-ignore
    return { items: rows.map(eventView), next_cursor: next === null ? null : formatCursor(next) }
  }

  /** NDJSON; ends when the reader cancels, or may read no longer. */
  follow(caller: Caller, request: EventsRequest): ReadableStream<Uint8Array> {
    const filter = this.#filter(caller, request)
    const sees = this.#sight(caller)
    let cursor = this.#after(request.after)
    return this.#watchers.stream(() => {
      this.#stay(caller)
      const rows = this.#store.events.after(cursor, filter, STREAM_PAGE)
      cursor = rows.at(-1)?.seq ?? cursor
      // What it must not see passes as an empty line, so that the rest is looked at as soon as this is taken.
      return rows.length === 0
        ? undefined
        : rows.map((row) => (sees(row) ? `${JSON.stringify(eventView(row))}\n` : "")).join("") || "\n"
    })
  }

  /** An event outlives its container; then only its id and its name are known. */
  #sight({ details }: Caller): (row: EventRow) => boolean {
    if (details === null) return () => true
    const known = new Map<string, boolean>()
    return ({ container_id, container_name }) => {
      if (container_id === null) return false
      const before = known.get(container_id)
      if (before !== undefined) return before
      const row = this.#store.container(container_id)
      const target = { id: container_id, name: container_name, spec: row?.spec ?? null, digest: row?.image_digest ?? null }
      const seen = isAbout(details, target)
      // What is not known yet may be by the next event: the digest that a tag stands for.
      if (seen) known.set(container_id, seen)
      return seen
    }
  }

  #filter(caller: Caller, { container, types }: EventsRequest): EventFilter {
    if (container === null) return { types, container }
    // Events outlive their container, so its id is enough where anything is known of it.
    if (isId("ctr", container) && this.#store.events.after(0, { types: [], container }, 1).length > 0) return { types, container }
    return { types, container: this.#reading.resolve(caller, container).id }
  }

  #after(after: string | null): number {
    return after === null ? 0 : this.seqOf(after)
  }

  /** The place of a cursor or an event's id. @throws AppError `invalid_field`. */
  seqOf(after: string): number {
    const seq = isId("evt", after) ? this.#store.events.seqOf(after) : parseCursor(after)
    if (seq === undefined) {
      const message = `is neither a cursor such as ${formatCursor(1)} nor the id of an event that is kept`
      throw new AppError("invalid_field", `after ${message}.`, { errors: [{ pointer: "?after", message }] })
    }
    return seq
  }
}
