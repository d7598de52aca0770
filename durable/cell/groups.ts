/**
 * How many runs of each placement group there are on each node, and which nodes hold a run that must not share its node with
 * the group. Only runs that name a group are counted, so this stays as small as its use.
 */
import type { NodeState } from "./node-state.ts"

export interface Membership {
  readonly group: string | null
  readonly anti_affinity: readonly string[] | null
}

class Group {
  readonly members = new Map<NodeState, number>()
  /** Runs of other groups that keep away from this one. */
  readonly avoiders = new Map<NodeState, number>()
  /** Members by a label's value, counted when first asked for. */
  readonly byLabel = new Map<string, Map<string, number>>()
}

export class Groups {
  readonly #byKey = new Map<string, Group>()

  /** Members on the node. */
  on(key: string, node: NodeState): number {
    return this.#byKey.get(key)?.members.get(node) ?? 0
  }

  /** Members on nodes that have the label with this value. */
  among(key: string, label: string, value: string): number {
    const group = this.#byKey.get(key)
    if (group === undefined) return 0
    let counts = group.byLabel.get(label)
    if (counts === undefined) {
      counts = new Map()
      for (const [node, members] of group.members) add(counts, node.kind.labels[label], members)
      group.byLabel.set(label, counts)
    }
    return counts.get(value) ?? 0
  }

  /** Whether the node holds a run that must not share it with this group. */
  isAvoided(key: string, node: NodeState): boolean {
    return this.#byKey.get(key)?.avoiders.has(node) ?? false
  }

  book(node: NodeState, { group, anti_affinity }: Membership, sign: 1 | -1): void {
    if (group !== null) {
      const counted = this.#group(group)
      add(counted.members, node, sign)
      for (const [label, counts] of counted.byLabel) add(counts, node.kind.labels[label], sign)
      this.#dropIfEmpty(group, counted)
    }
    for (const key of anti_affinity ?? []) {
      const counted = this.#group(key)
      add(counted.avoiders, node, sign)
      this.#dropIfEmpty(key, counted)
    }
  }

  /** A node has other labels than before. */
  relabelled(): void {
    for (const group of this.#byKey.values()) group.byLabel.clear()
  }

  forget(node: NodeState): void {
    for (const [key, group] of this.#byKey) {
      if (group.members.delete(node)) group.byLabel.clear()
      group.avoiders.delete(node)
      this.#dropIfEmpty(key, group)
    }
  }

  #group(key: string): Group {
    const known = this.#byKey.get(key)
    if (known !== undefined) return known
    const made = new Group()
    this.#byKey.set(key, made)
    return made
  }

  #dropIfEmpty(key: string, { members, avoiders }: Group): void {
    if (members.size === 0 && avoiders.size === 0) this.#byKey.delete(key)
  }
}

function add<K>(counts: Map<K, number>, key: K | undefined, change: number): void {
  if (key === undefined) return
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}
