/**
 * Gives up the runs of a node that lost its right to them: their assignments stay, with the wish to destroy them, and each
 * tenant is told. The mark that a tenant has yet to hear stays until it answered.
 */
import type { NodeId } from "../../schema/ids.ts"
import type { Reason } from "../../schema/protocol.ts"
import type { Peers } from "../shared/ports.ts"
import type { AssignmentSet } from "./assignment-set.ts"
import { type NodeStore, orphaning } from "./store.ts"

export class Orphans {
  readonly #store: NodeStore
  readonly #set: AssignmentSet
  readonly #peers: Peers

  constructor(store: NodeStore, set: AssignmentSet, peers: Peers) {
    this.#store = store
    this.#set = set
    this.#peers = peers
  }

  giveUpLive(reason: Reason): void {
    const rows = this.#store.live().map((row) => orphaning(row, reason))
    this.#set.change(rows, [])
  }

  /** @throws when a tenant could not be told; what is left stays marked. */
  async tell(nodeId: NodeId): Promise<void> {
    for (const [tenant, rows] of Map.groupBy(this.#store.orphaned(), (row) => row.tenant_id)) {
      for (const [reason, group] of Map.groupBy(rows, (row) => JSON.stringify(row.orphaned))) {
        const runs = group.map((row) => row.run_id)
        await this.#peers.tenant(tenant).orphan(nodeId, runs, JSON.parse(reason) as Reason)
        this.#store.orphansTold(tenant, runs)
      }
    }
    if (this.#store.node()?.forgotten) this.#store.clear()
  }
}
