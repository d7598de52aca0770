/**
 * Carries a bridge's reports to the tenants, one after the other. A report is acknowledged once every tenant in it has stored
 * its part; throwing means that it was not, and the bridge must send it again. What speaks of runs that are not assigned to
 * this node is left out: the node is not trusted.
 */
import type { NodeId, RunId } from "../../schema/ids.ts"
import { isTerminal } from "../../schema/lifecycle.ts"
import type { NodeMessage, Notice, Observation } from "../../schema/protocol.ts"
import type { Peers } from "../shared/ports.ts"
import type { AssignmentSet } from "./assignment-set.ts"
import { type Assigned, destroying, type NodeStore } from "./store.ts"

type Report = NodeMessage & { type: "report" }

interface Seen {
  readonly row: Assigned
  readonly seen: Observation
}

/** What a report says of runs that are this node's. */
interface Told {
  readonly mine: readonly Seen[]
  readonly gone: readonly Assigned[]
  readonly notices: readonly { readonly row: Assigned; readonly notice: Notice }[]
}

/** A bridge has a few reports on their way; many more only fill our memory. */
const MAX_WAITING = 64

export class Reports {
  readonly #store: NodeStore
  readonly #set: AssignmentSet
  readonly #peers: Peers
  #last: Promise<void> = Promise.resolve()
  #waiting = 0

  constructor(store: NodeStore, set: AssignmentSet, peers: Peers) {
    this.#store = store
    this.#set = set
    this.#peers = peers
  }

  /** True when the node must be stopped from sending more. */
  get full(): boolean {
    return this.#waiting >= MAX_WAITING
  }

  /** In the order in which they come, whatever became of the one before. */
  forward(nodeId: NodeId, report: Report): Promise<void> {
    this.#waiting++
    const turn = this.#last.then(() => this.#forward(nodeId, report))
    this.#last = turn
      .catch(() => {})
      .finally(() => {
        this.#waiting--
      })
    return turn
  }

  async #forward(nodeId: NodeId, report: Report): Promise<void> {
    const mine = report.observations.flatMap((seen) => this.#assigned(seen.run_id).map((row) => ({ row, seen })))
    const gone = report.gone.flatMap((run) => this.#assigned(run))
    const notices = report.notices.flatMap((notice) => this.#assigned(notice.run_id).map((row) => ({ row, notice })))
    const unknown = await this.#observe(nodeId, { mine, gone, notices })
    const known = unknown.map((run) => this.#store.assignment(run)).filter((row) => row !== undefined)
    this.#set.change(known.filter((row) => row.desired !== "removed").map(destroying), [])
    this.#store.markEnded(mine.filter(({ seen }) => isTerminal(seen.state)).map(({ row }) => row.run_id))
    // A run whose tenant has yet to hear that it was given up stays until then.
    const removable = gone.flatMap((row) => this.#assigned(row.run_id)).filter((row) => row.orphaned === null)
    const ids = removable.map((row) => row.run_id)
    this.#set.change([], ids)
  }

  async #observe(nodeId: NodeId, { mine, gone, notices }: Told): Promise<RunId[]> {
    const rows = [...mine.map(({ row }) => row), ...gone, ...notices.map(({ row }) => row)]
    const tenants = new Set(rows.map((row) => row.tenant_id))
    const answers = await Promise.all(
      [...tenants].map((tenant) => {
        const observations = mine.filter(({ row }) => row.tenant_id === tenant).map(({ seen }) => seen)
        const left = gone.filter((row) => row.tenant_id === tenant).map((row) => row.run_id)
        const happened = notices.filter(({ row }) => row.tenant_id === tenant).map(({ notice }) => notice)
        return this.#peers.tenant(tenant).observe(nodeId, observations, left, happened)
      }),
    )
    return answers.flatMap((answer) => answer.unknown)
  }

  #assigned(run: RunId): Assigned[] {
    const row = this.#store.assigned(run)
    return row ? [row] : []
  }
}
