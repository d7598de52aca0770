/**
 * Keeps the cell told of what this node is and whether it may be given runs. Level-triggered: a call tells the present state,
 * and the mark that something is to be told is cleared only when nothing has changed since. What a crash leaves marked, the
 * alarm tells.
 */
import type { Reason } from "../../schema/protocol.ts"
import { knownVulnerabilities } from "../../schema/vulnerabilities.ts"
import type { Peers } from "../shared/ports.ts"
import type { NodeStore } from "./store.ts"

export const DISCONNECTED: Reason = { code: "node_disconnected", message: "The node is not connected." }

export class CellLink {
  readonly #store: NodeStore
  readonly #peers: Peers
  readonly #failed: () => void
  #last: Promise<void> = Promise.resolve()
  #next: Promise<void> | null = null
  #changes = 0

  constructor(store: NodeStore, peers: Peers, failed: () => void) {
    this.#store = store
    this.#peers = peers
    this.#failed = failed
  }

  /** Resolves when the cell has answered or the attempt failed; never throws. */
  tell(): Promise<void> {
    this.#changes++
    // A call that has not begun will tell this as well.
    this.#next ??= this.#last.then(() => {
      this.#next = null
      return this.#call()
    })
    this.#last = this.#next
    return this.#next
  }

  /** Resolves when what was said so far has been told, or the attempt failed. */
  told(): Promise<void> {
    return this.#last
  }

  async #call(): Promise<void> {
    const node = this.#store.node()
    if (!node?.cell_due || node.facts === null || node.forgotten) return
    const { node_id, cell_id, facts, condition, connected } = node
    const reason = connected ? (condition?.reason ?? null) : DISCONNECTED
    const telling = this.#changes
    try {
      const { hostname, capacity, profiles, devices, max_open_files, versions } = facts
      const vulnerable = knownVulnerabilities(versions).length > 0
      const labels = { ...facts.labels, ...node.operator_labels }
      const cell = this.#peers.cell(cell_id)
      const offer = {
        node_id,
        hostname,
        capacity,
        labels,
        profiles,
        devices,
        max_open_files,
        vulnerable,
        exclusive_to: node.exclusive_to,
      }
      if (connected) await cell.registerNode(cell_id, offer)
      await cell.setNodeReady(node_id, connected && (condition?.accepting ?? false), reason)
      if (telling === this.#changes) this.#store.updateNode({ cell_due: false })
    } catch (error) {
      console.error("the cell could not be told of this node and will be again", error)
      this.#failed()
    }
  }
}
