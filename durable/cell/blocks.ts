/**
 * The nodes of a cell in blocks of one kind each, so that a search can pass over a whole block for what its nodes are, or for
 * what is free on none of them. A block's `free` never says less than is true, so passing over never misses a node: booking
 * leaves it too high until somebody has looked at the block in vain.
 */
import type { Free, NodeKind, NodeState } from "./node-state.ts"

/** Small enough that a sample comes from several places of the cell; large enough that passing over is worth it. */
export const BLOCK_NODES = 16

const NOTHING: Free = { ready: false, runs: 0, millicpus: 0, memory_bytes: 0, pids: 0, disk_bytes: 0, devices: 0 }

export class Block {
  readonly kind: NodeKind
  readonly nodes: NodeState[] = []
  #free: Free = NOTHING

  constructor(kind: NodeKind) {
    this.kind = kind
  }

  get free(): Free {
    return this.#free
  }

  /** The node has come, or more is free on it than before. */
  raise({ free }: NodeState): void {
    if (free.ready) this.#free = most(this.#free, free)
  }

  /** To what is true now. */
  tighten(): void {
    this.#free = this.nodes.reduce((free, node) => (node.free.ready ? most(free, node.free) : free), NOTHING)
  }
}

export class Blocks {
  #all: Block[] = []
  readonly #of = new Map<NodeState, Block>()
  readonly #open = new Map<NodeKind, Block[]>()

  get all(): readonly Block[] {
    return this.#all
  }

  add(node: NodeState): void {
    const ofKind = this.#open.get(node.kind) ?? []
    let block = ofKind.find(({ nodes }) => nodes.length < BLOCK_NODES)
    if (block === undefined) {
      block = new Block(node.kind)
      this.#all.push(block)
      ofKind.push(block)
      this.#open.set(node.kind, ofKind)
    }
    block.nodes.push(node)
    this.#of.set(node, block)
    block.raise(node)
    if (block.nodes.length === BLOCK_NODES) ofKind.splice(ofKind.indexOf(block), 1)
  }

  remove(node: NodeState): void {
    const block = this.#of.get(node)
    if (block === undefined) return
    this.#of.delete(node)
    block.nodes.splice(block.nodes.indexOf(node), 1)
    const ofKind = this.#open.get(block.kind) ?? []
    const others = ofKind.filter((one) => one !== block)
    if (block.nodes.length > 0) others.push(block)
    else this.#all = this.#all.filter((one) => one !== block)
    if (others.length > 0) this.#open.set(block.kind, others)
    else this.#open.delete(block.kind)
  }

  /** More is free on the node than before. */
  raised(node: NodeState): void {
    this.#of.get(node)?.raise(node)
  }
}

const most = (a: Free, b: Free): Free => ({
  ready: a.ready || b.ready,
  runs: Math.max(a.runs, b.runs),
  millicpus: Math.max(a.millicpus, b.millicpus),
  memory_bytes: Math.max(a.memory_bytes, b.memory_bytes),
  pids: Math.max(a.pids, b.pids),
  disk_bytes: Math.max(a.disk_bytes, b.disk_bytes),
  devices: Math.max(a.devices, b.devices),
})
