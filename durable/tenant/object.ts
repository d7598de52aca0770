/**
 * One tenant: the truth about its containers, runs and events, and the driver of every run's way to a node and back.
 *
 * A change is one transaction that also writes its events and marks what other objects must hear; `Saga` carries the marks,
 * the alarm carries what was left behind by a crash. Await points lie between transactions only, and every transaction reads
 * what it changes, so calls may interleave anywhere else.
 */
import { DurableObject } from "cloudflare:workers"
import type { Container, Event, Page } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import type { ContainerCreate, ContainerUpdate } from "../../schema/container.ts"
import { type CellId, type ContainerId, isId, type NodeId, type RunId } from "../../schema/ids.ts"
import type { Notice, Observation, Reason } from "../../schema/protocol.ts"
import migrations from "../../schema/migrations/tenant/migrations.js"
import { Alarms } from "../shared/alarms.ts"
import { migrateOnce, openDatabase } from "../shared/database.ts"
import { type Env, type Peers, peersOf, systemClock, systemIds } from "../shared/ports.ts"
import type {
  Answer, Call, ContainerAction, ContainerListRequest, EventsRequest, TenantConfig, TenantRpc, WaitRequest,
} from "../shared/rpc.ts" // prettier-ignore
import { decideAction, overQuota, type Refusal } from "./actions.ts"
import { passDeadline } from "./deadlines.ts"
import { containerCreated } from "./events.ts"
import { held } from "./hold.ts"
import { type Committed, Ledger } from "./ledger.ts"
import { Observations } from "./observations.ts"
import { updateNetwork } from "./network-update.ts"
import { Once } from "./once.ts"
import { type Group, newContainer } from "./plan.ts"
import { refusedByPolicy } from "./policy.ts"
import { nextCollection, retentionBounds } from "./retention.ts"
import { Saga } from "./saga.ts"
import type { ContainerRow, RunRow } from "./rows.ts"
import { type EventFilter, TenantStore } from "./store.ts"
import { containerView, eventView, formatCursor, latestRun, parseCursor, waitVerdict } from "./view.ts"
import { Watchers } from "./watchers.ts"

/** Events taken from SQLite at once for a reader that follows. */
const STREAM_PAGE = 100

export class TenantObject extends DurableObject<Env> implements TenantRpc {
  readonly #clock = systemClock
  readonly #ids = systemIds(systemClock)
  readonly #store: TenantStore
  readonly #peers: Peers
  readonly #alarms: Alarms
  readonly #ledger: Ledger
  readonly #saga: Saga
  readonly #once: Once
  readonly #observations: Observations
  readonly #watchers = new Watchers()
  #settings: TenantConfig | undefined

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    const db = openDatabase(ctx.storage)
    const store = new TenantStore(db)
    this.#store = store
    this.#peers = peersOf(env)
    this.#alarms = new Alarms(ctx.storage, this.#clock, [
      () => store.nextRetry(),
      () => store.nextDeadline(),
      () => nextCollection(store.oldest(), this.#clock.now()),
    ])
    this.#ledger = new Ledger(store, this.#clock, this.#ids, (committed) => this.#committed(committed))
    this.#saga = new Saga({
      store,
      peers: this.#peers,
      clock: this.#clock,
      settings: () => this.#config(),
      change: (run, mutate) => this.#ledger.changeRun(run, mutate),
      batch: (work) => this.#ledger.batch(work),
      background: (work) => ctx.waitUntil(work),
    })
    this.#observations = new Observations(store, this.#ledger, () => this.#config().policy)
    this.#once = new Once(store, this.#clock, (id) => this.#render(id))
    void ctx.blockConcurrencyWhile(async () => {
      await migrateOnce(db, migrations)
      await this.#alarms.load()
      this.#settings = store.settings()
    })
  }

  async configure(config: TenantConfig): Promise<void> {
    if (config.revision < (this.#settings?.revision ?? 0)) return
    this.#store.saveSettings(config)
    this.#settings = config
    // A new cell may hold what the old ones could not.
    this.#background(this.#store.pendingRuns())
  }

  async createContainer(call: Call, create: ContainerCreate, holdMs = 0): Promise<Answer<Container>> {
    this.#config()
    const answer = await this.#once.answer(call, {
      status: 201,
      run: async (remember) => {
        const { name, start, ...spec } = create
        const group = this.#ledger.batch(() => {
          if (name !== undefined && this.#store.liveByName(name)) throw nameTaken(name)
          const id = this.#ids.make("ctr")
          const desired = start ? "running" : "stopped"
          this.#refuse(refusedByPolicy(spec, this.#config().policy))
          const draft = newContainer({ id, name: name ?? null, spec, desired }, this.#clock.now())
          if (start) this.#refuse(overQuota(this.#store.used(), this.#config().quota, spec.resources))
          remember(id)
          return this.#ledger.create({ group: draft, events: [containerCreated(draft.container)] })
        })
        const run = latestRun(group)
        // The answer tells where the container stands with the cell. Placement began with the commit.
        if (run && holdMs === 0) await this.#saga.called(run.id)
        return this.#render(group.container.id)
      },
    })
    return held(answer, holdMs, this.#watchers, (id) => this.#viewOf(id))
  }

  async getContainer(ref: string): Promise<Container> {
    return this.#render(this.#resolve(ref).id)
  }

  async listContainers(request: ContainerListRequest): Promise<Page<Container>> {
    const { policy } = this.#config()
    const rows = this.#store.list(request, request.limit + 1)
    const items = rows.slice(0, request.limit).map(({ container, run }) => containerView(container, run ?? undefined, policy))
    return { items, next_cursor: rows.length > request.limit ? (items.at(-1)?.id ?? null) : null }
  }

  async updateContainer(call: Call, ref: string, update: ContainerUpdate): Promise<Answer<Container>> {
    return this.#once.answer(call, {
      status: 200,
      run: async (remember) => {
        const { id, latest_run_id } = this.#resolve(ref)
        await this.#saga.handedOver(latest_run_id)
        this.#ledger.batch(() => {
          const { network } = update
          remember(id)
          if (network === undefined) return
          this.#ledger.change(id, (group) => {
            const updated = updateNetwork(group, network)
            if (!updated.ok) throw refused(updated.error)
            return updated.value
          })
        })
        return this.#render(id)
      },
    })
  }

  async act(call: Call, ref: string, action: ContainerAction, holdMs = 0): Promise<Answer<Container>> {
    // A repeat is known by its key alone: by now the name may be gone, or belong to another container.
    const answer = await this.#once.answer(call, {
      status: 200,
      run: async (remember) => {
        const { id, latest_run_id } = this.#resolve(ref)
        await this.#saga.handedOver(latest_run_id)
        const signal = this.#ledger.batch(() => this.#applyAction(id, action, remember))
        if (signal !== undefined) {
          await this.#peers.node(signal.node).command(signal.run, { kind: "signal", signal: signal.name })
          remember(id)
        }
        return this.#render(id)
      },
    })
    return held(answer, holdMs, this.#watchers, (id) => this.#viewOf(id))
  }

  async wait(ref: string, request: WaitRequest): Promise<{ reached: boolean; container: Container }> {
    const { id } = this.#resolve(ref)
    const look = () => {
      const run = request.run === null ? undefined : this.#runOf(id, request.run)
      const now = waitVerdict(this.#render(id), request.status, run)
      return now === "not_yet" ? undefined : now
    }
    const verdict = await this.#watchers.until(id, look, request.timeout_ms)
    return { reached: verdict === "reached", container: this.#render(id) }
  }

  async locate(ref: string, run: RunId | null): Promise<{ node_id: NodeId; run_ids: RunId[] }> {
    const group = this.#group(this.#resolve(ref).id)
    const wanted = run === null ? group.runs.findLast((one) => one.node_id !== null) : group.runs.find((one) => one.id === run)
    if (run !== null && wanted === undefined)
      throw new AppError("not_found", `The container has no run ${run}, or it is kept no longer.`)
    if (!wanted || wanted.node_id === null)
      throw new AppError("action_not_allowed", "No run of the container has been given to a node yet.")
    const there = group.runs.filter((one) => one.node_id === wanted.node_id && one.present && (run === null || one.id === run))
    return { node_id: wanted.node_id, run_ids: there.map((one) => one.id) }
  }

  async listEvents(request: EventsRequest): Promise<Page<Event>> {
    const rows = this.#store.eventsAfter(this.#after(request.after), this.#filter(request), request.limit + 1)
    const items = rows.slice(0, request.limit).map(eventView)
    return { items, next_cursor: rows.length > request.limit ? (items.at(-1)?.cursor ?? null) : null }
  }

  async followEvents(request: EventsRequest): Promise<ReadableStream<Uint8Array>> {
    const filter = this.#filter(request)
    let cursor = this.#after(request.after)
    return this.#watchers.stream(() => {
      const rows = this.#store.eventsAfter(cursor, filter, STREAM_PAGE)
      cursor = rows.at(-1)?.seq ?? cursor
      return rows.length === 0 ? undefined : rows.map((row) => `${JSON.stringify(eventView(row))}\n`).join("")
    })
  }

  async observe(nodeId: NodeId, observations: Observation[], gone: RunId[], notices: Notice[]): Promise<{ unknown: RunId[] }> {
    return { unknown: this.#observations.take(nodeId, observations, gone, notices) }
  }

  async orphan(nodeId: NodeId, runIds: RunId[], reason: Reason): Promise<void> {
    this.#observations.orphan(nodeId, runIds, reason)
  }

  async capacityChanged(_cellId: CellId): Promise<void> {
    this.#background(this.#store.pendingRuns())
  }

  override async alarm(): Promise<void> {
    await this.#alarms.fire(async () => {
      const now = this.#clock.now()
      for (const id of this.#store.dueContainers(now)) this.#ledger.change(id, (group, at) => passDeadline(group, at))
      this.#store.collect(retentionBounds(now))
      await this.#saga.drive(this.#store.dueRuns(now))
    })
  }

  #committed({ containers, due, wakeAtMs }: Committed): void {
    this.#alarms.atLatest(wakeAtMs)
    this.#watchers.changed(containers)
    this.#background(due)
  }

  #background(runs: readonly RunRow[]): void {
    if (runs.length > 0) this.ctx.waitUntil(this.#saga.drive(runs))
  }

  #applyAction(id: ContainerId, action: ContainerAction, remember: (id: ContainerId) => void) {
    const before = this.#group(id)
    const decided = decideAction(before, action, this.#clock.now())
    if (!decided.ok) throw refused(decided.error)
    const decision = decided.value
    if (decision.kind === "signal") {
      const run = latestRun(before)
      if (!run || run.node_id === null) throw new AppError("action_not_allowed", "The container has no running process.")
      return { node: run.node_id, run: run.id, name: decision.signal }
    }
    if (decision.begins) {
      this.#refuse(refusedByPolicy(before.container.spec, this.#config().policy))
      this.#refuse(overQuota(this.#store.used(), this.#config().quota, before.container))
    }
    remember(id)
    this.#ledger.change(id, () => ({ group: decision.group, events: [] }))
    return undefined
  }

  #config(): TenantConfig {
    if (this.#settings === undefined) throw new AppError("not_found", "There is no such tenant.")
    return this.#settings
  }

  #resolve(ref: string): ContainerRow {
    this.#config()
    const found = isId("ctr", ref) ? this.#store.container(ref) : this.#store.liveByName(ref)
    if (!found) throw new AppError("not_found", `You have no container ${ref}.`)
    return found
  }

  #group(id: ContainerId): Group {
    const group = this.#store.group(id)
    if (!group) throw new AppError("not_found", `You have no container ${id}.`)
    return group
  }

  #runOf(id: ContainerId, runId: RunId): RunRow | null {
    const run = this.#store.run(runId)
    if (run && run.container_id !== id) throw new AppError("not_found", `The container has no run ${runId}.`)
    return run ?? null
  }

  #render(id: ContainerId): Container {
    const view = this.#viewOf(id)
    if (!view) throw new AppError("not_found", `You have no container ${id}.`)
    return view
  }

  #viewOf(id: ContainerId): Container | undefined {
    const container = this.#store.container(id)
    if (!container) return undefined
    const run = container.latest_run_id === null ? undefined : this.#store.run(container.latest_run_id)
    return containerView(container, run, this.#config().policy)
  }

  #refuse(refusal: Refusal | undefined): void {
    if (refusal) throw refused(refusal)
  }

  #filter(request: EventsRequest): EventFilter {
    this.#config()
    const { container, types } = request
    if (container === null) return { types, container }
    // Events outlive their container, so its id is enough where anything is known of it.
    if (isId("ctr", container) && this.#store.eventsAfter(0, { types: [], container }, 1).length > 0) return { types, container }
    return { types, container: this.#resolve(container).id }
  }

  #after(after: string | null): number {
    if (after === null) return 0
    const seq = isId("evt", after) ? this.#store.seqOfEvent(after) : parseCursor(after)
    if (seq === undefined) {
      const message = `is neither a cursor such as ${formatCursor(1)} nor the id of an event that is kept`
      throw new AppError("invalid_field", `after ${message}.`, { errors: [{ pointer: "?after", message }] })
    }
    return seq
  }
}

const refused = ({ code, detail, errors = [] }: Refusal) => new AppError(code, detail, { errors })
const nameTaken = (name: string) => new AppError("name_taken", `You already have a live container named ${name}.`)
