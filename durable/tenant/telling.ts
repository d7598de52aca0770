/**
 * Tells nodes what to make true, and records what they were told.
 *
 * A placed run is told to its node before it is on record here: each commit on the way of a create costs its caller a
 * millisecond or two. A crash in between leaves it pending at the cell that it asked, and then either the cell names the same
 * node again, or that node speaks of it first (`given` in placing.ts). What is done to such a run meanwhile waits for `handing`.
 */
import type { NodeId, RunId } from "../../schema/ids.ts"
import type { Assignment } from "../../schema/protocol.ts"
import { type Group, replaceRun } from "./group.ts"
import { atPlace, mayGoEarly, type Place, placed } from "./placing.ts"
import { sameWish } from "./plan.ts"
import type { RunRow } from "./rows.ts"
import type { SagaPorts } from "./saga.ts"
import { assignmentOf } from "./view.ts"

/** A call takes 32 MiB; text may take two bytes a character there, and one assignment has at most 1 MiB of it. */
const CHARACTERS_PER_CALL = 12 * 1024 * 1024

export class Telling {
  readonly #ports: SagaPorts
  readonly #handing = new Map<RunId, Promise<void>>()

  constructor(ports: SagaPorts) {
    this.#ports = ports
  }

  /** Resolves when a run that its node is being told of for the first time is on record as placed. */
  handing(run: RunId): Promise<void> | undefined {
    return this.#handing.get(run)
  }

  async handOver(places: ReadonlyMap<RunId, Place>): Promise<void> {
    const byNode = Map.groupBy(places, ([, at]) => at.node)
    await Promise.all([...byNode].map(([node, group]) => this.#handOver(node, new Map(group))))
  }

  async assign(node: NodeId | null, due: readonly RunRow[]): Promise<void> {
    if (node === null) return
    const tookMs = await this.#tell(node, due)
    this.#ports.batch(() => {
      for (const sent of due) {
        this.#ports.change(sent.id, (group) => ({ group: acknowledged(group, sent, tookMs), events: [] }))
      }
    })
  }

  async #handOver(node: NodeId, places: ReadonlyMap<RunId, Place>): Promise<void> {
    const now = this.#ports.clock.now()
    const fresh = [...places].flatMap(([id, at]) => {
      const run = this.#ports.store.run(id)
      const container = run && this.#ports.store.container(run.container_id)
      const early = run?.state === "pending" && container && mayGoEarly(container.spec, at)
      return early ? [atPlace(container.spec, run, at, now)] : []
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    for (const { id } of fresh) this.#handing.set(id, promise)
    let tookMs: number | undefined
    try {
      if (fresh.length > 0) tookMs = await this.#tell(node, fresh)
      // The object of the node shares our thread more often than not, and has its word to the host still to send.
      await scheduler.wait(0)
    } finally {
      for (const { id } of fresh) this.#handing.delete(id)
      resolve()
      const told = new Map(fresh.map((run) => [run.id, run]))
      this.#ports.batch(() => {
        for (const [id, at] of places) {
          const sent = told.get(id)
          this.#ports.change(id, (group, run, at_ms) => {
            const known = placed(group, run, at, at_ms)
            return sent && tookMs !== undefined ? { ...known, group: acknowledged(known.group, sent, tookMs) } : known
          })
        }
      })
    }
  }

  /** How many milliseconds the node's object took for it. */
  async #tell(node: NodeId, runs: readonly RunRow[]): Promise<number> {
    const { tenant_id } = this.#ports.settings()
    const assignments = runs.flatMap((run) => {
      const container = this.#ports.store.container(run.container_id)
      return container ? [assignmentOf(tenant_id, container, run)] : []
    })
    const began = this.#ports.clock.now()
    for (const some of inCalls(assignments)) await this.#ports.peers.node(node).assign(some)
    return this.#ports.clock.now() - began
  }
}

function inCalls(all: readonly Assignment[]): Assignment[][] {
  if (all.length <= 1) return [[...all]]
  const calls: Assignment[][] = [[]]
  let characters = 0
  for (const assignment of all) {
    const more = JSON.stringify(assignment).length
    if (characters + more > CHARACTERS_PER_CALL && characters > 0) {
      calls.push([])
      characters = 0
    }
    characters += more
    calls.at(-1)?.push(assignment)
  }
  return calls
}

/** A wish that changed while it was being sent is still due. */
function acknowledged(group: Group, sent: RunRow, tookMs: number): Group {
  const run = group.runs.find((one) => one.id === sent.id)
  if (run === undefined) return group
  const timings = "assigned" in run.timings ? run.timings : { ...run.timings, assigned: tookMs }
  return replaceRun(group, { ...run, timings, assign_due: !sameWish(run, sent) })
}
