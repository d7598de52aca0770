/**
 * Asks that no node could meet a moment ago. Booking only makes less fit, so such a refusal stands until a node on which
 * something was freed would take the run: asking again and again for what is not to be had then costs no look at every node.
 */
import type { Refused } from "../../schema/api.ts"
import type { NodeState } from "./node-state.ts"
import { refusal, type Search } from "./schedule.ts"

/** Each is held against each node that frees something; beyond so many, looking again is as cheap. */
const MAX_REFUSALS = 64

export class Refusals {
  readonly #standing = new Map<string, { readonly search: Search; readonly refused: readonly Refused[] }>()

  /** As it was counted when the ask was first refused. */
  get({ ask }: Search): readonly Refused[] | undefined {
    return this.#standing.size === 0 ? undefined : this.#standing.get(keyOf(ask))?.refused
  }

  add(search: Search, refused: readonly Refused[]): void {
    // One that looks at other runs may be met by what happens on a node that itself refuses it.
    if (search.ask.group !== null || search.ask.averse.length > 0) return
    const oldest = this.#standing.keys().next().value
    if (this.#standing.size >= MAX_REFUSALS && oldest !== undefined) this.#standing.delete(oldest)
    this.#standing.set(keyOf(search.ask), { search, refused })
  }

  /** Something was freed on the node, or it has changed. */
  changed(node: NodeState): void {
    for (const [key, { search }] of this.#standing) if (refusal(node, search) === undefined) this.#standing.delete(key)
  }

  clear(): void {
    this.#standing.clear()
  }
}

const keyOf = ({ tenant_id, resources, profile, bits, refuse_vulnerable, placement }: Search["ask"]): string =>
  JSON.stringify([tenant_id, resources, profile, bits, refuse_vulnerable, placement])
