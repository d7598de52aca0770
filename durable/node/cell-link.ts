/**
 * Keeps the cell told of what this node is and whether it may be given runs. Level-triggered: a call tells the present state,
 * and the mark that something is to be told is cleared only when nothing has changed since. What a crash leaves marked, the
 * alarm tells.
 */
import { AppError } from "../../schema/errors.ts"
import type { CellId } from "../../schema/ids.ts"
import { knownVulnerabilities } from "../../schema/vulnerabilities.ts"
import type { Peers } from "../shared/ports.ts"
import { readinessOf } from "./readiness.ts"
import type { NodeRow, NodeStore } from "./store.ts"

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

  /**
   * Takes its leave of one cell, after all that was to be told; `tell` then registers it at the other. Throws
   * `action_not_allowed` while the cell keeps room on it: a run may be placed whose assignment has yet to come.
   */
  moveTo(cellId: CellId): Promise<void> {
    const turn = this.tell().then(() => this.#leaveFor(cellId))
    this.#last = turn.catch(() => {})
    return turn
  }

  async #leaveFor(cellId: CellId): Promise<void> {
    const node = this.#store.node()
    if (!node || node.cell_id === cellId) return
    const { node_id, cell_id } = node
    if (node.cell_due && node.facts !== null) throw new AppError("unavailable", "The node's cell does not answer now.")
    const cell = this.#peers.cell(cell_id)
    const runs = (await cell.listNodes()).find((listed) => listed.node_id === node_id)?.reserved.runs ?? 0
    if (runs > 0) throw new AppError("action_not_allowed", `Drain the node first: its cell keeps room on it for ${runs} runs.`)
    // Should this object die before the next line is written, its alarm registers the node where it was.
    this.#store.updateNode({ cell_due: true })
    this.#failed()
    await cell.forgetNode(node_id).catch((cause: unknown) => {
      throw new AppError("unavailable", "The node's cell does not answer now.", { cause })
    })
    this.#store.updateNode({ cell_id: cellId, cell_due: true })
  }

  async #call(): Promise<void> {
    const node = this.#store.node()
    if (!node?.cell_due || (node.facts === null && !node.forgotten)) return
    const telling = this.#changes
    try {
      await this.#say(node)
      if (telling === this.#changes) this.#store.updateNode({ cell_due: false })
    } catch (error) {
      console.error("the cell could not be told of this node and will be again", error)
      this.#failed()
    }
  }

  async #say(node: NodeRow): Promise<void> {
    const { node_id, cell_id, facts, exclusive_to } = node
    const cell = this.#peers.cell(cell_id)
    if (node.forgotten || facts === null) return cell.forgetNode(node_id)
    const { hostname, capacity, profiles, devices, max_open_files, versions } = facts
    const vulnerable = knownVulnerabilities(versions).length > 0
    const labels = { ...facts.labels, ...node.operator_labels }
    const offer = { node_id, hostname, capacity, labels, profiles, devices, max_open_files, vulnerable, exclusive_to }
    await cell.registerNode(cell_id, offer)
    const { accepting, reason } = readinessOf(node, node.connected)
    await cell.setNodeReady(node_id, accepting, reason)
  }
}
