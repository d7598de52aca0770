/**
 * Asks cells to place runs. The cell that a run asks is on record before it is asked, so after a crash or a lost answer the same
 * one is asked again: it may have placed the run, and only its own refusal leads on to another. With one cell its name comes
 * with the run's own row and costs nothing.
 *
 * Runs that need the same go as one ask.
 */
import type { Refused } from "../../schema/api.ts"
import { featuresFor, hostPids } from "../../schema/features.ts"
import type { ContainerSpec } from "../../schema/container.ts"
import type { CellId, RunId } from "../../schema/ids.ts"
import type { Ask, TenantConfig } from "../shared/rpc.ts"
import { replaceRun } from "./group.ts"
import { mergeRefused, type Place, policyRefused, unplaceable } from "./placing.ts"
import { refusedByPolicy } from "./policy.ts"
import type { SagaPorts } from "./saga.ts"

export const askOf = (spec: ContainerSpec, { tenant_id, policy }: TenantConfig): Omit<Ask, "run_ids"> => ({
  tenant_id,
  image: spec.image,
  resources: { ...spec.resources, pids: hostPids(spec) },
  profile: spec.profile,
  features: featuresFor(spec),
  refuse_vulnerable: policy.vulnerable_nodes === "refuse",
  placement: spec.placement,
})

/** A cell counts a label's values on its own nodes alone, so the runs of a group that is spread by one stay in one cell. */
export const countsByLabel = ({ placement: { spread } }: ContainerSpec): boolean => spread !== undefined && spread.by !== "node"

/** A run on its way through the cells. */
interface Asker {
  readonly id: RunId
  readonly spec: ContainerSpec
  readonly ask: Omit<Ask, "run_ids">
  /** Cells that refused it, and why. */
  readonly tried: readonly CellId[]
  readonly refused: readonly (readonly Refused[])[]
}

interface Answered {
  readonly places: ReadonlyMap<RunId, Place>
  readonly refused: readonly Asker[]
}

export class Asking {
  readonly #ports: SagaPorts
  readonly #handOver: (places: ReadonlyMap<RunId, Place>) => Promise<void>

  constructor(ports: SagaPorts, handOver: (places: ReadonlyMap<RunId, Place>) => Promise<void>) {
    this.#ports = ports
    this.#handOver = handOver
  }

  /** `answered` is called once every run has asked its first cell. @throws when a cell or a node did not answer. */
  async place(runs: readonly RunId[], answered: () => void): Promise<void> {
    let left = runs.flatMap((id) => this.#asker(id))
    const results: PromiseSettledResult<unknown>[] = []
    while (left.length > 0) {
      const byCell = await this.#choose(left)
      const answers = await Promise.allSettled([...byCell].map(([cell, some]) => this.#ask(cell, some)))
      answered()
      const told = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []))
      results.push(...answers, ...(await Promise.allSettled(told.map(({ places }) => this.#handOver(places)))))
      left = told.flatMap(({ refused }) => refused)
    }
    const failed = results.find((result) => result.status === "rejected")
    if (failed) throw failed.reason
  }

  /** None for a run that has ended while it waited for its turn, or that the policy forbids by now. */
  #asker(id: RunId): Asker[] {
    const run = this.#ports.store.run(id)
    const spec = run?.state === "pending" ? this.#ports.store.container(run.container_id)?.spec : undefined
    if (spec === undefined) return []
    const settings = this.#ports.settings()
    const refusal = refusedByPolicy(spec, settings.policy)
    if (refusal === undefined) return [{ id, spec, ask: askOf(spec, settings), tried: [], refused: [] }]
    this.#ports.change(id, (group, pending, now) => policyRefused(group, pending, refusal.detail, now))
    return []
  }

  /** By the cell that each asks next. Whom all have refused waits, and says why. */
  async #choose(askers: readonly Asker[]): Promise<Map<CellId, Asker[]>> {
    const byCell = new Map<CellId, Asker[]>()
    const open: Asker[] = []
    for (const asker of askers) {
      const recorded = this.#ports.store.run(asker.id)?.cell_id ?? null
      if (recorded === null || asker.tried.includes(recorded)) open.push(asker)
      else byCell.set(recorded, [...(byCell.get(recorded) ?? []), asker])
    }
    for (const some of Map.groupBy(open, ({ tried }) => tried.join()).values()) {
      const { cells } = this.#ports.settings()
      const chosen = await this.#ports.cells.choose(cells.filter((cell) => !some[0]?.tried.includes(cell)))
      this.#ports.batch(() => some.forEach((asker) => this.#record(asker, chosen, byCell)))
    }
    return byCell
  }

  #record(asker: Asker, chosen: CellId | undefined, byCell: Map<CellId, Asker[]>): void {
    const cell = this.#home(asker) ?? chosen
    if (cell === undefined || asker.tried.includes(cell)) {
      const refused = mergeRefused(asker.refused)
      return this.#ports.change(asker.id, (group, run, now) => unplaceable(group, run, refused, now))
    }
    this.#ports.change(asker.id, (group, run) => {
      return { group: run.state === "pending" ? replaceRun(group, { ...run, cell_id: cell }) : group, events: [] }
    })
    byCell.set(cell, [...(byCell.get(cell) ?? []), asker])
  }

  #home({ id, spec }: Asker): CellId | undefined {
    const { group } = spec.placement
    return group !== undefined && countsByLabel(spec) ? this.#ports.store.cellOfGroup(group, id) : undefined
  }

  async #ask(cell: CellId, askers: readonly Asker[]): Promise<Answered> {
    const { policy } = this.#ports.settings()
    const alike = Map.groupBy(askers, ({ ask }) => JSON.stringify(ask))
    const asks = [...alike.values()].flatMap((some) =>
      some.slice(0, 1).map(({ ask }) => ({ ...ask, run_ids: some.map(({ id }) => id) })),
    )
    const asked_at_ms = this.#ports.clock.now()
    const placements = await this.#ports.peers.cell(cell).place(cell, asks)
    const answered_at_ms = this.#ports.clock.now()
    const places = new Map<RunId, Place>()
    const refusals = new Map<RunId, readonly Refused[]>()
    for (const { run_id, ...answer } of placements) {
      if (answer.node_id === null) refusals.set(run_id, answer.refused)
      else {
        const { node_id: node, region, devices, features } = answer
        places.set(run_id, { cell, node, region, devices, features, policy, asked_at_ms, answered_at_ms })
      }
    }
    const refused = askers.flatMap((asker) => {
      const why = refusals.get(asker.id)
      return why ? [{ ...asker, tried: [...asker.tried, cell], refused: [...asker.refused, why] }] : []
    })
    return { places, refused }
  }
}
