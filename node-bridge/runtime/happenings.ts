/**
 * What the parts of the host have to tell without being asked, on its way to the one listener. What happens before anybody
 * listens waits: a bridge that takes runs over may learn of a lost device before its agent is there. Of each run and kind the
 * latest waits, so that what waits is bounded by what is there.
 */
import { conditionOf } from "../condition/condition.ts"
import type { NodeCondition } from "../../schema/node.ts"
import type { Condition, Notice } from "../../schema/protocol.ts"
import type { HostListener } from "./controller.ts"

export class Happenings {
  #listener: HostListener | null = null
  readonly #waiting = new Map<string, Omit<Notice, "id">>()
  readonly #found = new Map<NodeCondition["kind"], NodeCondition>()

  get condition(): Condition {
    return conditionOf([...this.#found.values()])
  }

  listen(listener: HostListener): () => void {
    this.#listener = listener
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const notice of waiting) listener.notice(notice)
    return () => {
      if (this.#listener === listener) this.#listener = null
    }
  }

  notice(notice: Omit<Notice, "id">): void {
    if (this.#listener) this.#listener.notice(notice)
    else this.#waiting.set(`${notice.run_id} ${notice.kind}`, notice)
  }

  facts(): void {
    this.#listener?.facts()
  }

  /** Null: it is over. */
  setCondition(kind: NodeCondition["kind"], found: NodeCondition | null): void {
    if (found) this.#found.set(kind, found)
    else this.#found.delete(kind)
    this.#listener?.condition()
  }
}
