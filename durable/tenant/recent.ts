/**
 * Containers that were read or written last, as they lie in SQLite. A create reads its container some ten times on its way, and
 * each read of a row with its JSON costs a good part of a millisecond once the machine has gone idle. This object is the only
 * writer of its storage, so what it wrote is what is there; `clear` when a write may not have come to pass.
 */
import type { ContainerId, RunId } from "../../schema/ids.ts"
import type { Group } from "./group.ts"

/** Some KiB each, of an object's 128 MiB. A container in motion comes up every few milliseconds. */
const MOST = 500

export class Recent {
  readonly #groups = new Map<ContainerId, Group>()
  readonly #containerOf = new Map<RunId, ContainerId>()

  get(id: ContainerId): Group | undefined {
    return this.#groups.get(id)
  }

  byRun(id: RunId): Group | undefined {
    const container = this.#containerOf.get(id)
    return container && this.#groups.get(container)
  }

  put(group: Group): void {
    this.#forget(group.container.id)
    this.#groups.set(group.container.id, group)
    for (const run of group.runs) this.#containerOf.set(run.id, group.container.id)
    const [oldest] = this.#groups.keys()
    if (this.#groups.size > MOST && oldest !== undefined) this.#forget(oldest)
  }

  clear(): void {
    this.#groups.clear()
    this.#containerOf.clear()
  }

  #forget(id: ContainerId): void {
    for (const run of this.#groups.get(id)?.runs ?? []) this.#containerOf.delete(run.id)
    this.#groups.delete(id)
  }
}
