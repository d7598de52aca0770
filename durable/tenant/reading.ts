/** What a tenant reads of its containers. */
import type { Container, Page } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { type ContainerId, isId, type NodeId, type RunId } from "../../schema/ids.ts"
import { isTerminal } from "../../schema/lifecycle.ts"
import type { Caller, ContainerListRequest, TenantConfig, WaitRequest, Workload } from "../shared/rpc.ts"
import { pageOf, sees } from "./caller.ts"
import { type Group, latestRun } from "./group.ts"
import type { ContainerRow, RunRow } from "./rows.ts"
import type { TenantStore } from "./store.ts"
import { containerView } from "./view.ts"
import { waitVerdict } from "./wait.ts"
import type { Watchers } from "./watchers.ts"

export interface Waited {
  readonly reached: boolean
  /** It cannot be reached any more by itself. */
  readonly never: boolean
  readonly container: Container
}

export class Reading {
  readonly #store: TenantStore
  readonly #watchers: Watchers
  readonly #settings: () => TenantConfig

  constructor(store: TenantStore, watchers: Watchers, settings: () => TenantConfig) {
    this.#store = store
    this.#watchers = watchers
    this.#settings = settings
  }

  /** `ref` is an id or the name of a live container. @throws AppError `not_found`, also for one outside of the caller's token. */
  resolve(caller: Caller, ref: string): ContainerRow {
    this.#settings()
    const found = isId("ctr", ref) ? this.#store.container(ref) : this.#store.liveByName(ref)
    if (!found || !sees(caller, found)) throw unknown(ref)
    return found
  }

  /** @throws AppError `not_found`. */
  group(id: ContainerId): Group {
    const group = this.#store.group(id)
    if (!group) throw unknown(id)
    return group
  }

  /** @throws AppError `not_found`. */
  render(id: ContainerId): Container {
    const view = this.viewOf(id)
    if (!view) throw unknown(id)
    return view
  }

  viewOf(id: ContainerId): Container | undefined {
    const container = this.#store.container(id)
    if (!container) return undefined
    const run = container.latest_run_id === null ? undefined : this.#store.run(container.latest_run_id)
    return containerView(container, run, this.#settings().policy)
  }

  list(caller: Caller, request: ContainerListRequest): Page<Container> {
    const { policy } = this.#settings()
    const { rows, next } = pageOf(caller, request, {
      read: (cursor, limit) => this.#store.list({ ...request, cursor }, limit),
      place: ({ container }) => container.id as string,
      sees: ({ container }) => sees(caller, container),
    })
    return { items: rows.map(({ container, run }) => containerView(container, run ?? undefined, policy)), next_cursor: next }
  }

  async wait(caller: Caller, ref: string, request: WaitRequest): Promise<Waited> {
    const { id } = this.resolve(caller, ref)
    const look = () => {
      const run = request.run === null ? undefined : this.#runOf(id, request.run)
      const now = waitVerdict(this.render(id), request.status, run)
      return now === "not_yet" ? undefined : now
    }
    const verdict = await this.#watchers.until(id, look, request.timeout_ms)
    return { reached: verdict === "reached", never: verdict === "never", container: this.render(id) }
  }

  locate(caller: Caller, ref: string, run: RunId | null): { node_id: NodeId; run_ids: RunId[] } {
    const group = this.group(this.resolve(caller, ref).id)
    const { runs } = group
    // A successor that does not run yet has nothing to show.
    const latest = latestRun(group)
    const shown = latest?.node_id ? latest : runs.findLast((one) => one.node_id !== null)
    const wanted = run === null ? shown : runs.find((one) => one.id === run)
    if (run !== null && wanted === undefined)
      throw new AppError("not_found", `The container has no run ${run}, or it is kept no longer.`)
    if (!wanted || wanted.node_id === null)
      throw new AppError("action_not_allowed", "No run of the container has been given to a node yet.")
    const there = runs.filter((one) => one.node_id === wanted.node_id && one.present && (run === null || one.id === run))
    return { node_id: wanted.node_id, run_ids: there.map((one) => one.id) }
  }

  /** What a container is, for its identity. @throws AppError `not_found`. */
  workload(nodeId: NodeId, runId: RunId): Workload {
    const run = this.#store.run(runId)
    const container = run && this.#store.container(run.container_id)
    if (!container || run.node_id !== nodeId || isTerminal(run.state) || !container.spec.identity)
      throw new AppError("not_found", `This node holds no live run ${runId} that has an identity.`)
    const { id, name, spec } = container
    const { image, labels } = spec
    const image_digest = run.image_digest ?? container.image_digest
    return { container_id: id, name, tenant_name: this.#settings().name, image, image_digest, labels }
  }

  #runOf(id: ContainerId, runId: RunId): RunRow | null {
    const run = this.#store.run(runId)
    if (run && run.container_id !== id) throw new AppError("not_found", `The container has no run ${runId}.`)
    return run ?? null
  }
}

const unknown = (ref: string) => new AppError("not_found", `You have no container ${ref}.`)
