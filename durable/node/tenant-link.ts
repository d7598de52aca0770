/**
 * Keeps tenants told of what becomes of their runs here beside what the bridge reports: given up, out of sight, to be taken
 * elsewhere. What is to be told is marked in storage in the same step that makes it true, and the mark goes once the tenant has
 * answered: a crash tells twice, never not at all. One tenant that does not answer holds up no other.
 */
import type { NodeId, TenantId } from "../../schema/ids.ts"
import type { Reason } from "../../schema/protocol.ts"
import type { Peers } from "../shared/ports.ts"
import type { AssignmentSet } from "./assignment-set.ts"
import { type AssignmentRow, type NodeStore, orphaning } from "./store.ts"

const LAPSED: Reason = { code: "node_lost", message: "The node that ran this container was not heard of for too long." }
const FORGOTTEN: Reason = { code: "node_forgotten", message: "The node that ran this container was taken away." }
const CUT_OFF: Reason = {
  code: "node_unreachable",
  message: "The node that runs this container has not been heard of for too long; the container is kept, unseen.",
}
export const DRAINING: Reason = { code: "node_draining", message: "The node that runs this container is being emptied." }

export class TenantLink {
  readonly #store: NodeStore
  readonly #set: AssignmentSet
  readonly #peers: Peers
  readonly #failed: () => void
  #last: Promise<void> = Promise.resolve()

  constructor(store: NodeStore, set: AssignmentSet, peers: Peers, failed: () => void) {
    this.#store = store
    this.#set = set
    this.#peers = peers
    this.#failed = failed
  }

  /** The lease ran out: the node destroys its runs, should it come back, but for those that are kept meanwhile. */
  lapsed(): void {
    const rows = this.#store.live()
    this.#set.change(
      rows.filter((row) => row.body.spec.on_partition === "stop").map((row) => orphaning(row, LAPSED)),
      [],
    )
    const kept = rows.filter((row) => row.body.spec.on_partition === "keep" && !row.cut_off)
    this.#store.setCutOff(kept, true)
  }

  /** The operator took the node away: nothing of it counts any more. */
  forgotten(): void {
    this.#set.change(
      this.#store.live().map((row) => orphaning(row, FORGOTTEN)),
      [],
    )
  }

  /** The node is back with what it kept. */
  returned(): void {
    this.#store.setCutOff(this.#store.cutOff(), false)
  }

  /** Resolves when every tenant was told or the attempt failed; never throws. Attempts come one after the other. */
  tell(): Promise<void> {
    this.#last = this.#last.then(() => this.#tellAll())
    return this.#last
  }

  async #tellAll(): Promise<void> {
    const node = this.#store.node()
    if (node === undefined) return
    const told = await Promise.all([
      ...this.#orphans(node.node_id),
      ...this.#cutOffs(node.node_id),
      this.#evacuations(node.node_id),
    ])
    if (told.includes(false)) return this.#failed()
    if (this.#store.node()?.forgotten) this.#store.clear()
  }

  #orphans(nodeId: NodeId): Promise<boolean>[] {
    return grouped(this.#store.orphaned(), (row) => row.orphaned).map(([tenant, rows, reason]) =>
      attempt(async () => {
        const runs = rows.map((row) => row.run_id)
        if (reason) await this.#peers.tenant(tenant).orphan(nodeId, runs, reason)
        this.#store.orphansTold(tenant, runs)
      }),
    )
  }

  #cutOffs(nodeId: NodeId): Promise<boolean>[] {
    return grouped(this.#store.cutOffDue(), (row) => row.cut_off).map(([tenant, rows, isCutOff]) =>
      attempt(async () => {
        const runs = rows.map((row) => row.run_id)
        await this.#peers.tenant(tenant).cutOff(nodeId, runs, isCutOff ? CUT_OFF : null)
        this.#store.cutOffTold(tenant, runs, isCutOff)
      }),
    )
  }

  /** The mark is for all tenants together: what has come since it was read, or failed, tells all of them again. */
  async #evacuations(nodeId: NodeId): Promise<boolean> {
    const drain = this.#store.node()?.drain
    if (!drain?.due) return true
    const now = drain.due === "over"
    const staying = this.#store.live().filter((row) => row.desired === "running")
    const told = await Promise.all(
      grouped(staying, () => null).map(([tenant, rows]) =>
        attempt(async () => {
          const runs = rows.map((row) => row.run_id)
          await this.#peers.tenant(tenant).evacuate(nodeId, runs, DRAINING, now)
        }),
      ),
    )
    if (told.includes(false)) return false
    if (this.#store.node()?.drain === drain) this.#store.updateNode({ drain: { ...drain, due: null } })
    return true
  }
}

/** By tenant and by what is to be said. */
function grouped<T>(rows: readonly AssignmentRow[], what: (row: AssignmentRow) => T): [TenantId, AssignmentRow[], T][] {
  const groups = Map.groupBy(rows, (row) => `${row.tenant_id} ${JSON.stringify(what(row))}`)
  return [...groups.values()].flatMap((group) => {
    const [first] = group
    return first ? [[first.tenant_id, group, what(first)]] : []
  })
}

async function attempt(work: () => Promise<void>): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    console.error("a tenant could not be told of its runs and will be again", error)
    return false
  }
}
