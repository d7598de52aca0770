/**
 * What the objects and the worker say to each other. Each object implements its interface; callers see nothing else.
 * Everything here crosses Workers RPC: plain data and byte streams, no `unknown`, no recursive types. A refusal is a thrown
 * `AppError`, whose own properties survive the crossing (`asAppError` restores it).
 */
import type {
  BatchAnswer, Container, DryRun, Event, NodeView, OperatorDryRun, Page, Policy, Quota, QuotaUse, Refused, Room, Weights,
} from "../../schema/api.ts" // prettier-ignore
import type { AuditEntry } from "../../schema/audit.ts"
import type {
  ContainerBatch, ContainerCreate, ContainerUpdate, Labels, PlacementWish, Resources, SignalName,
} from "../../schema/container.ts" // prettier-ignore
import type {
  ContainerId,
  CellId,
  EventId,
  NodeId,
  RegistryCredentialId,
  RunId,
  TenantId,
  TokenId,
  TrustId,
  WebhookId,
} from "../../schema/ids.ts"
import type { Profile } from "../../schema/container.ts"
import type { Status } from "../../schema/lifecycle.ts"
import type { Feature } from "../../schema/features.ts"
import type { Capacity, Device, NodeCondition, NodeFacts, ProfileOffer } from "../../schema/node.ts"
import type { Assignment, Command, LogOptions, Notice, Observation, Reason } from "../../schema/protocol.ts"
import type { AuthorizationDetails, TenantScope, Token } from "../../schema/tokens.ts"
import type {
  Delivery, DeliveryState, Webhook, WebhookCreate, WebhookReplay, WebhookSecret, WebhookUpdate,
} from "../../schema/webhooks.ts" // prettier-ignore
import type { RegistryCredential, RegistryCredentialCreate, RegistryLogin } from "../../schema/registry-credentials.ts"
import type { z } from "zod"

type Labels_ = z.infer<typeof Labels>

/** A proof that the caller has the key that its token is bound to (RFC 9449). Each is good for one request. */
export interface ShownProof {
  readonly id: string
  readonly until_ms: number
  readonly request_id: string
}

/** Who calls, by the token that the worker verified. Whether it was revoked meanwhile only the TenantObject knows. */
export interface Caller {
  readonly subject: string
  readonly token_id: TokenId
  /** What the token was made from, the nearest first: revoking one of these revokes it. */
  readonly token_chain: readonly (TokenId | TrustId)[]
  readonly scopes: readonly string[]
  /** Containers that it is about; those outside are not there for it. Null: all. */
  readonly details: AuthorizationDetails | null
  readonly expires_at_ms: number
  readonly proof: ShownProof | null
  readonly request_id: string
  /** What is called, by the operation's id: for the audit log. */
  readonly operation: string
}

/** A call that changes something. `null` idempotency: the caller sent no key. */
export interface Call extends Caller {
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | null
}

/** The answer of a mutating call, stored with its idempotency key and given again to a repeat. */
export interface Answer<T> {
  readonly status: number
  readonly body: T
  readonly replayed: boolean
}

/** What is said of a container in its identity. */
export interface Workload {
  readonly container_id: ContainerId
  readonly name: string | null
  readonly tenant_name: string
  readonly image: string
  readonly image_digest: string | null
  readonly labels: Labels_
}

/** A token as it was signed. */
export interface IssuedToken {
  readonly id: TokenId
  readonly name: string
  readonly scopes: readonly TenantScope[]
  readonly details: AuthorizationDetails | null
  readonly chain: readonly (TokenId | TrustId)[]
  readonly expires_at_ms: number
}

export type ContainerAction =
  | { readonly kind: "start" | "pause" | "unpause" }
  | { readonly kind: "stop" | "restart"; readonly timeout_seconds: number | null }
  | { readonly kind: "kill"; readonly signal: SignalName }
  | { readonly kind: "remove"; readonly force: boolean }

export interface TenantConfig {
  readonly tenant_id: TenantId
  readonly name: string
  readonly quota: Quota
  readonly policy: Policy
  /** Rises with each change; an older config that comes late changes nothing. */
  readonly revision: number
  /** Cells this tenant's containers may go to, best first. */
  readonly cells: readonly CellId[]
}

export interface ContainerListRequest {
  readonly cursor: string | null
  readonly limit: number
  /** A value of null asks only that the label be there. */
  readonly labels: readonly { readonly key: string; readonly value: string | null }[]
  readonly status: Status | null
}

export interface WaitRequest {
  readonly status: Status | "settled"
  readonly run: RunId | null
  readonly timeout_ms: number
}

export interface EventsRequest {
  readonly after: string | null
  /** Exact types or `container.*`; empty for all. */
  readonly types: readonly string[]
  readonly container: string | null
  readonly limit: number
}

export interface DeliveriesRequest {
  readonly cursor: string | null
  readonly state: DeliveryState | null
  readonly limit: number
}

/**
 * What a caller may do was decided by its scopes in the worker. Methods that take a `Caller` refuse a revoked token
 * (`unauthenticated`) and show only the containers that its token is about.
 */
export interface TenantRpc {
  /** Makes the tenant, or changes its settings. Every other method answers `not_found` before it. */
  configure(config: TenantConfig): Promise<void>

  /** `holdMs`: the answer waits so long for the container to settle, as do `act`'s; 0 and absent are the same. */
  createContainer(call: Call, create: ContainerCreate, holdMs?: number): Promise<Answer<Container>>
  /** All of them or none. One placement call; a repeat of the call answers the same containers. */
  createBatch(call: Call, batch: ContainerBatch): Promise<Answer<BatchAnswer>>
  /** Where it would go and why not elsewhere; refuses as `createContainer` does. Changes nothing. */
  dryRun(caller: Caller, create: ContainerCreate): Promise<DryRun>
  /** The same, node by node, for operators. */
  explain(create: ContainerCreate): Promise<OperatorDryRun>
  /** `ref` is an id or the name of a live container; another tenant's id is `not_found`. */
  getContainer(caller: Caller, ref: string): Promise<Container>
  /** The same as JSON text: it crosses between objects in a part of the time that the thing itself takes. */
  getContainerJson(caller: Caller, ref: string): Promise<string>
  listContainers(caller: Caller, request: ContainerListRequest): Promise<Page<Container>>
  listContainersJson(caller: Caller, request: ContainerListRequest): Promise<string>
  /** Changes what can be changed while it runs. */
  updateContainer(call: Call, ref: string, update: ContainerUpdate): Promise<Answer<Container>>
  act(call: Call, ref: string, action: ContainerAction, holdMs?: number): Promise<Answer<Container>>
  /** Answers as soon as the status is reached, or can be reached no more by itself (`never`), or at the timeout with neither. */
  wait(caller: Caller, ref: string, request: WaitRequest): Promise<{ reached: boolean; never: boolean; container: Container }>
  /** The node that holds the container's latest run (or `run`), and which of its runs that node still keeps, oldest first. */
  locate(caller: Caller, ref: string, run: RunId | null): Promise<{ node_id: NodeId; run_ids: RunId[] }>

  listEvents(caller: Caller, request: EventsRequest): Promise<Page<Event>>
  /** NDJSON of events as they happen, from `after`; ends when the reader cancels. */
  followEvents(caller: Caller, request: EventsRequest): Promise<ReadableStream<Uint8Array>>

  /** Refuses a caller whose token was revoked. For calls that are answered without the caller's coming here otherwise. */
  admit(caller: Caller): Promise<void>
  /**
   * What a container is, for its identity. Throws `not_found` unless the run lives on this node and its container asked for one.
   */
  workload(nodeId: NodeId, runId: RunId): Promise<Workload>
  /** What the tenant may have, and has. */
  quota(caller: Caller): Promise<QuotaUse>
  /** Writes a call into the audit log whose change is not one transaction of this object, or that was denied before it came here. */
  record(caller: Caller, target: string | null, result: string): Promise<void>
  /** The audit log after an entry, oldest first, and its last entry. */
  audit(seq: number, limit: number): Promise<{ entries: AuditEntry[]; head: { seq: number; hash: string } }>
  /** Whether its token is still good; asking is not using it. */
  stands(caller: Caller): Promise<boolean>
  /** Puts a token on record before it is given to anybody. Idempotent by its id. The caller made it, or nobody's token of ours (null). */
  addToken(caller: Caller | null, token: IssuedToken, proof?: ShownProof): Promise<void>
  listTokens(caller: Caller, request: { readonly cursor: string | null; readonly limit: number }): Promise<Page<Token>>
  /** A token sees itself and what was made from it; with the scope tenant:admin all. */
  getToken(caller: Caller, id: TokenId): Promise<Token>
  /** And all that was made from it. Null: the caller's own, on record or not; that it was revoked before is no error. */
  revokeToken(caller: Caller, id: TokenId | null): Promise<void>
  /** All that a trust has given; none of it lives longer than until then. */
  revokeTrust(caller: Caller, id: TrustId, untilMs: number): Promise<void>

  /** Idempotent by the id, which the caller makes. */
  createRegistryCredential(id: RegistryCredentialId, create: RegistryCredentialCreate): Promise<RegistryCredential>
  listRegistryCredentials(): Promise<Page<RegistryCredential>>
  removeRegistryCredential(id: RegistryCredentialId): Promise<void>
  /** From a node, verified, that is about to pull for a run of its own. */
  registryLogin(nodeId: NodeId, runId: RunId): Promise<RegistryLogin>

  /** Idempotent by the id, which the caller makes. */
  createWebhook(id: WebhookId, create: WebhookCreate): Promise<WebhookSecret>
  listWebhooks(): Promise<Page<Webhook>>
  getWebhook(id: WebhookId): Promise<Webhook>
  updateWebhook(id: WebhookId, update: WebhookUpdate): Promise<Webhook>
  removeWebhook(id: WebhookId): Promise<void>
  rotateWebhookSecret(id: WebhookId, overlapSeconds: number): Promise<WebhookSecret>
  /** Writes an event that goes to this endpoint alone. */
  testWebhook(id: WebhookId): Promise<{ event_id: EventId }>
  listDeliveries(id: WebhookId, request: DeliveriesRequest): Promise<Page<Delivery>>
  replayWebhook(id: WebhookId, replay: WebhookReplay): Promise<{ after: string; until: string }>

  /**
   * From a NodeObject. Observations that are not news are ignored; throws only when it could not store them. `unknown` are
   * runs that are not, or no longer, this node's to run: it must destroy them.
   */
  observe(nodeId: NodeId, observations: Observation[], gone: RunId[], notices: Notice[]): Promise<{ unknown: RunId[] }>
  /** From a NodeObject whose lease lapsed, or that was forgotten. */
  orphan(nodeId: NodeId, runIds: RunId[], reason: Reason): Promise<void>
  /**
   * From a NodeObject whose lease lapsed, of runs that are kept while it is cut off: they go on, unseen; or, with `null`, that it
   * is back with them.
   */
  cutOff(nodeId: NodeId, runIds: RunId[], reason: Reason | null): Promise<void>
  /**
   * From a NodeObject that is being emptied: runs that are to go elsewhere, as each container's `drain` says. `now`: those too
   * that no restart policy would replace, for the deadline has come. Idempotent.
   */
  evacuate(nodeId: NodeId, runIds: RunId[], reason: Reason, now: boolean): Promise<void>
  /** From a CellObject at which a placement of this tenant failed: something may fit now. */
  capacityChanged(cellId: CellId): Promise<void>
}

/** Runs of one spec. */
export interface Ask {
  readonly run_ids: readonly RunId[]
  readonly tenant_id: TenantId
  /** For nodes that have run it before. */
  readonly image: string
  /** As its host counts them: a sandboxed run takes more processes there than it has. */
  readonly resources: Resources
  readonly profile: Profile
  /** What the profile must be able to do there. */
  readonly features: readonly Feature[]
  /** Nodes with known vulnerabilities do not count. */
  readonly refuse_vulnerable: boolean
  readonly placement: PlacementWish
}

/** What a cell makes of an ask without placing it. */
export interface Explanation {
  readonly nodes: OperatorDryRun["nodes"]
  /** The first of `nodes`, where one fits. */
  readonly region: string | null
  readonly fitting: number
  readonly refused: Refused[]
}

export type Placement =
  | {
      readonly run_id: RunId
      readonly node_id: NodeId
      readonly region: string | null
      /** By their CDI names. Asking again answers the same. */
      readonly devices: readonly string[]
      /** What the profile can do there. */
      readonly features: readonly Feature[]
    }
  /** Nothing fits: how many nodes each filter refused, by the filter's sentence, most first. */
  | { readonly run_id: RunId; readonly node_id: null; readonly refused: readonly Refused[] }

export interface CellRpc {
  /** From a NodeObject, at hello. Idempotent. */
  registerNode(
    cellId: CellId,
    node: {
      node_id: NodeId
      hostname: string
      capacity: Capacity
      labels: Labels_
      profiles: ProfileOffer[]
      devices: Device[]
      max_open_files: number
      vulnerable: boolean
      exclusive_to: TenantId[] | null
    },
  ): Promise<void>
  /** From a NodeObject: whether the node may be given new runs. */
  setNodeReady(nodeId: NodeId, ready: boolean, reason: Reason | null): Promise<void>
  /** One decision per run, in order. Asking again for a run that is placed answers the same node. */
  place(cellId: CellId, asks: Ask[]): Promise<Placement[]>
  /** What `place` would say of one run, of every node; at most 1,000 nodes by name. Changes nothing. */
  explain(cellId: CellId, ask: Omit<Ask, "run_ids">): Promise<Explanation>
  /**
   * Gives back reservations. A run that holds none is ignored, so a repeat credits nothing. `faulty`: those that failed by no
   * fault of their own, which speaks against their node for a while.
   */
  release(runIds: RunId[], faulty: RunId[]): Promise<void>
  room(): Promise<Room>
  /** From the worker, at the operator's call; a lower revision changes nothing. */
  configure(cellId: CellId, config: { weights: Weights; revision: number }): Promise<void>
  listNodes(): Promise<{ node_id: NodeId; ready: boolean; reserved: NodeView["reserved"] }[]>
  forgetNode(nodeId: NodeId): Promise<void>
}

export interface NodeStatus {
  readonly connected: boolean
  readonly accepting: boolean
  readonly reason: Reason | null
  readonly conditions: readonly NodeCondition[]
  readonly cordoned: boolean
  readonly drain: {
    readonly since_ms: number
    readonly deadline_ms: number
    readonly runs_at_start: number
    readonly runs_left: number
  } | null
  readonly exclusive_to: readonly TenantId[] | null
  readonly last_seen_ms: number | null
  readonly facts: NodeFacts | null
}

export interface NodeRpc {
  /** Makes these assignments part of the node's set, replacing earlier ones of the same run; sends them when connected. */
  assign(assignments: Assignment[]): Promise<{ connected: boolean }>
  /** One command to the bridge and its answer as JSON text. Throws `node_unreachable`. */
  command(runId: RunId, command: Command): Promise<string>
  /** NDJSON of `LogEntry`, with back-pressure to the bridge. Throws `node_unreachable`. */
  openLogs(runIds: RunId[], options: LogOptions): Promise<ReadableStream<Uint8Array>>
  status(): Promise<NodeStatus>
  /** Nothing new is placed there until `uncordon`. Idempotent, as are all of these. Throw `not_found` before the first session. */
  cordon(reason: string | null): Promise<void>
  /** Ends a drain as well; what has left stays away. */
  uncordon(): Promise<void>
  /** Cordons it, asks tenants to take their runs elsewhere, and at the deadline stops what is left. */
  drain(deadlineMs: number): Promise<void>
  setExclusive(tenants: TenantId[] | null): Promise<void>
  /** Takes its leave of one cell and registers at another. Throws `action_not_allowed` while runs are assigned to it. */
  moveTo(cellId: CellId): Promise<void>
  /** The operator forgets the node: its runs are orphaned, its session closed for good. */
  forget(): Promise<void>
}

/** Headers by which the worker tells a NodeObject who connects, after it verified the node's assertion. */
export const NODE_ID_HEADER = "x-berth-node-id"
export const CELL_ID_HEADER = "x-berth-cell-id"
/** JSON of the labels that the operator gave with the join token; they outrank the labels in the node's own facts. */
export const NODE_LABELS_HEADER = "x-berth-node-labels"
/** `<SHA-256 of the assertion's jti, hex> <when it expires, Unix milliseconds>`: no assertion begins two sessions. */
export const NODE_ASSERTION_HEADER = "x-berth-node-assertion"
