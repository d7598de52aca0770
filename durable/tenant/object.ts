/**
 * One tenant: the truth about its containers, runs and events, and the driver of every run's way to a node and back.
 *
 * A change is one transaction that also writes its events and marks what other objects must hear; `Saga` carries the marks,
 * the alarm carries what was left behind by a crash. Await points lie between transactions only, and every transaction reads
 * what it changes, so calls may interleave anywhere else.
 */
import { DurableObject } from "cloudflare:workers"
import type { BatchAnswer, Container, DryRun, Event, OperatorDryRun, Page, QuotaUse } from "../../schema/api.ts"
import type { ContainerBatch, ContainerCreate, ContainerSpec, ContainerUpdate } from "../../schema/container.ts"
import { AppError, asAppError } from "../../schema/errors.ts"
import type { CellId, ContainerId, NodeId, RegistryCredentialId, RunId, TokenId, TrustId, WebhookId } from "../../schema/ids.ts"
import type { Notice, Observation, Reason } from "../../schema/protocol.ts"
import type { Token } from "../../schema/tokens.ts"
import migrations from "../../schema/migrations/tenant/migrations.js"
import type { RegistryCredentialCreate } from "../../schema/registry-credentials.ts"
import { Alarms } from "../shared/alarms.ts"
import { migrateOnce, openDatabase } from "../shared/database.ts"
import { type Env, peersOf, randomNumber, systemClock, systemIds } from "../shared/ports.ts"
import type { WebhookCreate, WebhookReplay, WebhookUpdate } from "../../schema/webhooks.ts"
import type {
  Answer, Call, Caller, ContainerAction, ContainerListRequest, DeliveriesRequest, EventsRequest, IssuedToken, ShownProof, TenantConfig, TenantRpc, WaitRequest, Workload,
} from "../shared/rpc.ts" // prettier-ignore
import { sealerFor } from "../shared/sealing.ts"
import { AuditLog } from "./audit-log.ts"
import { AuditStore } from "./audit-store.ts"
import { countsByLabel } from "./asking.ts"
import { Cells } from "./cells.ts"
import { Changing } from "./changing.ts"
import { passDeadline } from "./deadlines.ts"
import { refuseBeyond } from "./caller.ts"
import { dryRunOf, explainAll, nodesOf } from "./dry-run.ts"
import { EventLog } from "./event-log.ts"
import { type Committed, Ledger } from "./ledger.ts"
import { Observations } from "./observations.ts"
import { Once } from "./once.ts"
import { RegistryCredentials } from "./registry-credentials.ts"
import { Reading, type Waited } from "./reading.ts"
import { nextCollection, retentionBounds } from "./retention.ts"
import type { RunRow } from "./rows.ts"
import { Saga } from "./saga.ts"
import { TenantStore } from "./store.ts"
import { TokenStore } from "./token-store.ts"
import { Tokens } from "./tokens.ts"
import { Watchers } from "./watchers.ts"
import { Webhooks } from "./webhooks/webhooks.ts"

export class TenantObject extends DurableObject<Env> implements TenantRpc {
  readonly #clock = systemClock
  readonly #store: TenantStore
  readonly #alarms: Alarms
  readonly #ledger: Ledger
  readonly #saga: Saga
  readonly #cells: Cells
  readonly #changing: Changing
  readonly #reading: Reading
  readonly #events: EventLog
  readonly #observations: Observations
  readonly #watchers = new Watchers()
  readonly #tokens: Tokens
  readonly #webhooks: Webhooks
  readonly #audit: AuditLog
  readonly #registryCredentials: RegistryCredentials
  #settings: TenantConfig | undefined

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    const db = openDatabase(ctx.storage)
    const [store, clock, ids, peers, watchers] = [
      new TenantStore(db), this.#clock, systemIds(systemClock), peersOf(env), this.#watchers,
    ] // prettier-ignore
    const settings = () => this.#config()
    this.#tokens = new Tokens(new TokenStore(db), clock)
    this.#store = store
    this.#alarms = new Alarms(ctx.storage, clock, [
      () => store.nextRetry(),
      () => store.nextDeadline(),
      () => nextCollection(store.oldest(), clock.now()),
      () => this.#webhooks.nextWake(),
      () => this.#audit.nextWake(),
    ])
    const ledger = new Ledger(store, clock, ids, {
      committed: (committed) => this.#committed(committed),
      cellOfNewRuns: (spec) => this.#cellOfNewRuns(spec),
    })
    this.#ledger = ledger
    this.#cells = new Cells(peers, clock, randomNumber)
    const saga = new Saga({
      store,
      peers,
      clock,
      cells: this.#cells,
      settings,
      change: (run, mutate) => ledger.changeRun(run, mutate),
      batch: (work) => ledger.batch(work),
      background: (work) => ctx.waitUntil(work),
    })
    this.#saga = saga
    const reading = new Reading(store, watchers, settings)
    this.#reading = reading
    this.#events = new EventLog({ store, watchers, reading, stay: (caller) => this.#tokens.stay(caller) })
    this.#webhooks = new Webhooks({
      db,
      env,
      clock,
      tenantId: () => this.#config().tenant_id,
      labelsOf: (id) => store.container(id)?.spec.labels ?? null,
      seqOf: (place) => this.#events.seqOf(place),
      addEvent: (draft, now) => store.events.add(null, draft, now, ids.make("evt")),
      told: () => this.#told(),
      background: (work) => ctx.waitUntil(work),
      wakeAt: (ms) => this.#alarms.atLatest(ms),
    })
    const audit = new AuditLog(new AuditStore(db), clock)
    this.#audit = audit
    const registryCredentials = new RegistryCredentials(db, clock, sealerFor(env.SECRETS_KEY, "registry credentials"))
    this.#registryCredentials = registryCredentials
    const once = new Once(store, clock, audit)
    this.#changing = new Changing({
      store,
      ledger,
      saga,
      once,
      reading,
      watchers,
      peers,
      clock,
      ids,
      registryCredentials,
      settings,
    })
    this.#observations = new Observations(store, ledger, () => this.#config().policy)
    void ctx.blockConcurrencyWhile(async () => {
      await migrateOnce(db, migrations)
      await this.#alarms.load()
      this.#settings = store.settings()
      this.#tokens.load()
      if (this.#settings) this.#webhooks.poke()
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
    this.#enter(call)
    return this.#changing.create(call, create, holdMs)
  }

  async createBatch(call: Call, batch: ContainerBatch): Promise<Answer<BatchAnswer>> {
    this.#enter(call)
    return this.#changing.createBatch(call, batch)
  }

  async dryRun(caller: Caller, create: ContainerCreate): Promise<DryRun> {
    this.#enter(caller)
    refuseBeyond(caller, create)
    const [settings, explained, first] = await this.#explain(create)
    return dryRunOf(create, explained, settings, first)
  }

  async explain(create: ContainerCreate): Promise<OperatorDryRun> {
    const [, explained, first] = await this.#explain(create)
    return nodesOf(explained, first)
  }

  async getContainer(caller: Caller, ref: string): Promise<Container> {
    this.#enter(caller)
    return this.#reading.render(this.#reading.resolve(caller, ref).id)
  }

  async getContainerJson(caller: Caller, ref: string): Promise<string> {
    return JSON.stringify(await this.getContainer(caller, ref))
  }

  async listContainersJson(caller: Caller, request: ContainerListRequest): Promise<string> {
    return JSON.stringify(await this.listContainers(caller, request))
  }

  async listContainers(caller: Caller, request: ContainerListRequest): Promise<Page<Container>> {
    this.#enter(caller)
    return this.#reading.list(caller, request)
  }

  async updateContainer(call: Call, ref: string, update: ContainerUpdate): Promise<Answer<Container>> {
    this.#enter(call)
    return this.#changing.update(call, ref, update)
  }

  async act(call: Call, ref: string, action: ContainerAction, holdMs = 0): Promise<Answer<Container>> {
    this.#enter(call)
    return this.#changing.act(call, ref, action, holdMs)
  }

  async wait(caller: Caller, ref: string, request: WaitRequest): Promise<Waited> {
    this.#enter(caller)
    return this.#reading.wait(caller, ref, request)
  }

  async locate(caller: Caller, ref: string, run: RunId | null): Promise<{ node_id: NodeId; run_ids: RunId[] }> {
    this.#enter(caller)
    return this.#reading.locate(caller, ref, run)
  }

  async listEvents(caller: Caller, request: EventsRequest): Promise<Page<Event>> {
    this.#enter(caller)
    return this.#events.page(caller, request)
  }

  async followEvents(caller: Caller, request: EventsRequest): Promise<ReadableStream<Uint8Array>> {
    this.#enter(caller)
    return this.#events.follow(caller, request)
  }

  async admit(caller: Caller): Promise<void> {
    this.#enter(caller)
  }

  async stands(caller: Caller): Promise<boolean> {
    return this.#settings !== undefined && this.#tokens.stands(caller)
  }

  async addToken(caller: Caller | null, token: IssuedToken, proof?: ShownProof): Promise<void> {
    if (caller) this.#enter(caller)
    this.#config()
    if (proof) this.#tokens.show(proof)
    this.#tokens.add(token)
  }

  async listTokens(caller: Caller, request: { cursor: string | null; limit: number }): Promise<Page<Token>> {
    this.#enter(caller)
    return this.#tokens.list(caller, request.cursor, request.limit)
  }

  async getToken(caller: Caller, id: TokenId): Promise<Token> {
    this.#enter(caller)
    return this.#tokens.get(caller, id)
  }

  async revokeToken(caller: Caller, id: TokenId | null): Promise<void> {
    this.#config()
    if (id === null) return this.#tokens.revokeSelf(caller)
    this.#enter(caller)
    this.#tokens.revoke(caller, id)
  }

  async revokeTrust(caller: Caller, id: TrustId, untilMs: number): Promise<void> {
    this.#enter(caller)
    this.#tokens.revokeTrust(id, untilMs)
  }

  async quota(caller: Caller): Promise<QuotaUse> {
    this.#enter(caller)
    const creates_in_last_minute = this.#store.createdSince(this.#clock.now() - 60_000)
    const used = { ...this.#store.used(), creates_in_last_minute, events: this.#store.events.count() }
    return { quota: this.#config().quota, used }
  }

  async record(caller: Caller, target: string | null, result: string): Promise<void> {
    this.#config()
    this.#audit.add(caller, target, result)
  }

  async audit(seq: number, limit: number) {
    this.#config()
    return { entries: this.#audit.after(seq, limit), head: this.#audit.head() }
  }

  async createRegistryCredential(id: RegistryCredentialId, create: RegistryCredentialCreate) {
    this.#config()
    return this.#registryCredentials.create(id, create)
  }

  async listRegistryCredentials() {
    return this.#registryCredentials.list()
  }

  async removeRegistryCredential(id: RegistryCredentialId) {
    this.#registryCredentials.remove(id)
  }

  async workload(nodeId: NodeId, runId: RunId): Promise<Workload> {
    return this.#reading.workload(nodeId, runId)
  }

  async registryLogin(nodeId: NodeId, runId: RunId) {
    const run = this.#store.run(runId)
    return this.#registryCredentials.loginFor(nodeId, runId, run, run && this.#store.container(run.container_id))
  }

  async createWebhook(id: WebhookId, create: WebhookCreate) {
    this.#config()
    return this.#webhooks.endpoints.create(id, create)
  }

  async listWebhooks() {
    this.#config()
    return this.#webhooks.endpoints.list()
  }

  async getWebhook(id: WebhookId) {
    return this.#webhooks.endpoints.get(id)
  }

  async updateWebhook(id: WebhookId, update: WebhookUpdate) {
    return this.#webhooks.endpoints.update(id, update)
  }

  async removeWebhook(id: WebhookId) {
    this.#webhooks.endpoints.remove(id)
  }

  async rotateWebhookSecret(id: WebhookId, overlapSeconds: number) {
    return this.#webhooks.endpoints.rotate(id, overlapSeconds)
  }

  async testWebhook(id: WebhookId) {
    return this.#webhooks.endpoints.test(id)
  }

  async listDeliveries(id: WebhookId, request: DeliveriesRequest) {
    return this.#webhooks.endpoints.deliveries(id, request)
  }

  async replayWebhook(id: WebhookId, replay: WebhookReplay) {
    return this.#webhooks.endpoints.replay(id, replay)
  }

  async observe(nodeId: NodeId, observations: Observation[], gone: RunId[], notices: Notice[]): Promise<{ unknown: RunId[] }> {
    return { unknown: this.#observations.take(nodeId, observations, gone, notices) }
  }

  async orphan(nodeId: NodeId, runIds: RunId[], reason: Reason): Promise<void> {
    this.#observations.orphan(nodeId, runIds, reason)
  }

  async cutOff(nodeId: NodeId, runIds: RunId[], reason: Reason | null): Promise<void> {
    this.#observations.cutOff(nodeId, runIds, reason)
  }

  async evacuate(nodeId: NodeId, runIds: RunId[], reason: Reason, now: boolean): Promise<void> {
    this.#observations.evacuate(nodeId, runIds, reason, now)
  }

  async capacityChanged(_cellId: CellId): Promise<void> {
    this.#background(this.#store.pendingRuns())
  }

  override async alarm(): Promise<void> {
    await this.#alarms.fire(async () => {
      const now = this.#clock.now()
      const failed = this.#store.dueContainers(now).flatMap((id) => this.#pass(id))
      this.#store.collect(retentionBounds(now), this.#settings?.quota.events ?? Infinity)
      this.#webhooks.wake()
      this.#audit.collect()
      await this.#saga.drive(this.#store.dueRuns(now))
      if (failed.length > 0) throw new AggregateError(failed, "some containers could not be changed at their time")
    })
  }

  /** One container that cannot be changed holds up no other; what went wrong is the answer. */
  #pass(id: ContainerId): unknown[] {
    try {
      this.#ledger.change(id, passDeadline)
      return []
    } catch (error) {
      return [error]
    }
  }

  async #explain(create: ContainerCreate) {
    const settings = this.#config()
    this.#changing.admit(create, create.name === undefined ? [] : [create.name], 1)
    const [explained, first] = await Promise.all([
      explainAll(create, settings, peersOf(this.env)),
      this.#cells.choose(settings.cells),
    ])
    return [settings, explained, first] as const
  }

  #committed({ containers, due, wakeAtMs }: Committed): void {
    this.#alarms.atLatest(wakeAtMs)
    this.#watchers.changed(containers)
    this.#webhooks.poke()
    this.#background(due)
  }

  /** An event of no container was written. */
  #told(): void {
    this.#watchers.changed(new Set())
    this.#webhooks.poke()
  }

  #background(runs: readonly RunRow[]): void {
    if (runs.length > 0) this.ctx.waitUntil(this.#saga.drive(runs))
  }

  /** @throws AppError `not_found` for a tenant that there is not, `unauthenticated` for a token that was revoked. */
  #enter(caller: Caller): void {
    this.#config()
    try {
      this.#tokens.enter(caller)
    } catch (error) {
      const refusal = asAppError(error)
      if (refusal) this.#audit.add(caller, null, refusal.code)
      throw error
    }
  }

  #cellOfNewRuns(spec: ContainerSpec): CellId | null {
    const { cells } = this.#config()
    return cells.length > 1 && countsByLabel(spec) ? null : (this.#cells.chooseNow(cells) ?? null)
  }

  #config(): TenantConfig {
    if (this.#settings === undefined) throw new AppError("not_found", "There is no such tenant.")
    return this.#settings
  }
}
