/**
 * The complete set of what a node must make true, and its way to the bridge: increments to a session that holds the set
 * before, the complete set to any other. Written to SQLite first; what is sent is only ever a copy.
 */
import type { RunId } from "../../schema/ids.ts"
import { DESIRED } from "../../schema/lifecycle.ts"
import { type Assignment, CLOSE, MAX_ASSIGNMENTS_PER_MESSAGE } from "../../schema/protocol.ts"
import { inParts } from "./session.ts"
import { close, send, type Sockets } from "./sockets.ts"
import { type AssignmentRow, type NodeStore, rowOf } from "./store.ts"

/** Characters of an assignment's message, near enough. */
const sizeOf = (row: AssignmentRow) => JSON.stringify(row.body).length

export class AssignmentSet {
  readonly #store: NodeStore
  readonly #sockets: Sockets
  readonly #changed: (rows: readonly AssignmentRow[]) => void

  /** `changed` hears of the rows that were written, before they are sent. */
  constructor(store: NodeStore, sockets: Sockets, changed: (rows: readonly AssignmentRow[]) => void) {
    this.#store = store
    this.#sockets = sockets
    this.#changed = changed
  }

  assign(bodies: readonly Assignment[]): void {
    const open = this.#sockets.open()
    // Goes out at once, while what is stored waits for the disk.
    if (open !== undefined && bodies.some((body) => this.#isNew(body))) send(open.socket, { type: "expect" })
    this.change(
      bodies.flatMap((body) => this.#accept(body)),
      [],
    )
  }

  change(upsert: readonly AssignmentRow[], remove: readonly RunId[]): void {
    if (upsert.length === 0 && remove.length === 0) return
    for (const { items, more } of inParts(upsert, MAX_ASSIGNMENTS_PER_MESSAGE, sizeOf))
      this.#changePart(items, more ? [] : remove)
  }

  sendComplete(socket: WebSocket): void {
    const version = this.#store.node()?.version ?? 0
    for (const { items, more } of inParts(this.#store.assignments(), MAX_ASSIGNMENTS_PER_MESSAGE, sizeOf)) {
      send(socket, { type: "complete", results_in: version, assignments: items.map((row) => row.body), more })
    }
    this.#sockets.moveTo(socket, "open", version)
  }

  #isNew({ run_id, desired }: Assignment): boolean {
    return desired === "running" && this.#store.assignment(run_id) === undefined
  }

  /** The row to write for an assignment; none when it says nothing new, or would take a wish back: a run that is to end is never revived. */
  #accept(body: Assignment): AssignmentRow[] {
    const known = this.#store.assignment(body.run_id)
    if (known && DESIRED.indexOf(body.desired) < DESIRED.indexOf(known.desired)) return []
    return known && JSON.stringify(known.body) === JSON.stringify(body) ? [] : [rowOf(body, known)]
  }

  #changePart(upsert: readonly AssignmentRow[], remove: readonly RunId[]): void {
    const from = this.#store.node()?.version
    if (from === undefined) return
    const to = from + 1
    this.#store.transaction(() => {
      for (const row of upsert) this.#store.put(row)
      for (const run of remove) this.#store.remove(run)
      this.#store.setVersion(to)
    })
    this.#changed(upsert)
    const open = this.#sockets.open()
    if (open === undefined) return
    if (open.version !== from) return close(open.socket, CLOSE.resync, "the assignments do not chain")
    const bodies = upsert.map((row) => row.body)
    send(open.socket, { type: "increment", applies_to: from, results_in: to, upsert: bodies, remove: [...remove] })
    this.#sockets.moveTo(open.socket, "open", to)
  }
}
