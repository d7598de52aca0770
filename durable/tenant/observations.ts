/**
 * What NodeObjects tell of this tenant's runs, made part of its records: each node of the runs that are its own, and nothing
 * of any other. A report is one transaction.
 */
import type { Policy } from "../../schema/api.ts"
import type { ContainerId, NodeId, RunId } from "../../schema/ids.ts"
import { isTerminal } from "../../schema/lifecycle.ts"
import type { Notice, Observation, Reason } from "../../schema/protocol.ts"
import type { Ledger } from "./ledger.ts"
import { noticed } from "./notices.ts"
import { cutOff, evacuate } from "./evacuation.ts"
import { type Group, orphanRun, replaceRun } from "./group.ts"
import { mergeGone, mergeObservation } from "./observe.ts"
import { type Changed, given } from "./placing.ts"
import type { RunRow } from "./rows.ts"
import type { TenantStore } from "./store.ts"

interface Told {
  readonly observations: readonly Observation[]
  readonly gone: readonly RunId[]
  readonly notices: readonly Notice[]
}

export class Observations {
  readonly #store: TenantStore
  readonly #ledger: Ledger
  readonly #policy: () => Policy

  constructor(store: TenantStore, ledger: Ledger, policy: () => Policy) {
    this.#store = store
    this.#ledger = ledger
    this.#policy = policy
  }

  /**
   * Answers the runs that the node must destroy. A container whose part cannot be stored though others can is left out and
   * logged: its node would send the report again without end, and nothing else of that node would come through.
   */
  take(nodeId: NodeId, observations: readonly Observation[], gone: readonly RunId[], notices: readonly Notice[]): RunId[] {
    const report = { observations, gone, notices }
    try {
      return this.#take(nodeId, report)
    } catch (error) {
      this.#store.probe() // throws where nothing can be stored at all
      console.error("a report could not be stored as a whole; what can be is stored container by container", error)
      return byContainer(report, (run) => this.#store.run(run)?.container_id).flatMap((part) => {
        try {
          return this.#take(nodeId, part)
        } catch (cause) {
          console.error("what a node told of a container could not be stored, and is left out", cause)
          return []
        }
      })
    }
  }

  #take(nodeId: NodeId, { observations, gone, notices }: Told): RunId[] {
    const unknown = new Set<RunId>()
    this.#ledger.batch(() => {
      const observe = (seen: Observation) => {
        const known = this.#mergeInto(nodeId, seen.run_id, (run, now) => mergeObservation(run, seen, now))
        if (!known) unknown.add(seen.run_id)
      }
      // A notice speaks of a run that lives, and may be why it then ends.
      observations.filter(({ state }) => !isTerminal(state)).forEach(observe)
      for (const notice of notices) this.#notice(nodeId, notice)
      observations.filter(({ state }) => isTerminal(state)).forEach(observe)
      for (const id of gone) this.#mergeInto(nodeId, id, mergeGone)
    })
    return [...unknown]
  }

  /** What was given up before, and might still have been there, is gone with its node. */
  orphan(nodeId: NodeId, runIds: readonly RunId[], reason: Reason): void {
    const give = (run: RunRow, now: number) => (isTerminal(run.state) ? mergeGone(run, now) : orphanRun(run, reason, now))
    this.#ledger.batch(() => {
      for (const id of runIds) this.#mergeInto(nodeId, id, give)
    })
  }

  cutOff(nodeId: NodeId, runIds: readonly RunId[], reason: Reason | null): void {
    this.#ledger.batch(() => {
      for (const id of runIds) this.#change(nodeId, id, (group, run) => cutOff(group, run, reason))
    })
  }

  evacuate(nodeId: NodeId, runIds: readonly RunId[], reason: Reason, atOnce: boolean): void {
    this.#ledger.batch(() => {
      for (const id of runIds) this.#change(nodeId, id, (group, run, now) => evacuate(group, run, reason, atOnce, now))
    })
  }

  #mergeInto(nodeId: NodeId, id: RunId, merge: (run: RunRow, now: number) => RunRow | undefined): boolean {
    return this.#change(nodeId, id, (group, run, now) => {
      return { group: replaceRun(group, merge(run, now) ?? run), events: [] }
    })
  }

  /** False when the run is not this node's, or not known any more. */
  #change(nodeId: NodeId, id: RunId, mutate: (group: Group, run: RunRow, now: number) => Changed): boolean {
    const known = this.#store.run(id)
    const lost = known?.state === "pending" && known.node_id === null
    if (known?.node_id !== nodeId && !lost) return false
    this.#ledger.changeRun(id, (group, run, now) => {
      if (!lost) return mutate(group, run, now)
      const there = given(group.container.spec, run, { node: nodeId, policy: this.#policy() }, now)
      return mutate(replaceRun(group, there), there, now)
    })
    return true
  }

  /** Each once: a node repeats what was not acknowledged. */
  #notice(nodeId: NodeId, notice: Notice): void {
    if (this.#store.run(notice.run_id)?.node_id !== nodeId) return
    const event = noticed(notice, this.#store.events.notices(notice.run_id))
    if (event === undefined) return
    this.#store.events.addNotice(notice)
    this.#ledger.changeRun(notice.run_id, (group) => ({ group, events: [event] }))
  }
}

/** The same report in parts that touch one container each; runs that nobody knows are a part of their own. */
function byContainer({ observations, gone, notices }: Told, containerOf: (run: RunId) => ContainerId | undefined): Told[] {
  const runs = [...observations.map((seen) => seen.run_id), ...gone, ...notices.map((notice) => notice.run_id)]
  const groups = Map.groupBy(new Set(runs), containerOf)
  return [...groups.values()].map((ids) => ({
    observations: observations.filter((seen) => ids.includes(seen.run_id)),
    gone: gone.filter((id) => ids.includes(id)),
    notices: notices.filter((notice) => ids.includes(notice.run_id)),
  }))
}
