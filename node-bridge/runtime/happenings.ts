/**
 * What the parts of the host have to tell without being asked, on its way to the one listener. What happens before anybody
 * listens waits: a bridge that takes runs over may learn of a lost device before its agent is there.
 */
import type { Condition, Notice } from "../../schema/protocol.ts"
import type { HostListener } from "./controller.ts"

export class Happenings {
  #listener: HostListener | null = null
  #waiting: Omit<Notice, "id">[] = []
  #condition: Condition = { accepting: true, reason: null, conditions: [] }

  get condition(): Condition {
    return this.#condition
  }

  listen(listener: HostListener): () => void {
    this.#listener = listener
    for (const notice of this.#waiting.splice(0)) listener.notice(notice)
    return () => {
      if (this.#listener === listener) this.#listener = null
    }
  }

  notice(notice: Omit<Notice, "id">): void {
    if (this.#listener) this.#listener.notice(notice)
    else this.#waiting.push(notice)
  }

  facts(): void {
    this.#listener?.facts()
  }

  setCondition(condition: Condition): void {
    this.#condition = condition
    this.#listener?.condition()
  }
}
