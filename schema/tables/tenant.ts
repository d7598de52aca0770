/**
 * TenantObject's database: the truth about one tenant's containers. Each column has one writer, named beside it; a column
 * with none named is written once, when its row is made. Times are Unix milliseconds by the object's clock.
 */
import { sql } from "drizzle-orm"
import { index, integer, primaryKey, real, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core"
import type { BatchAnswer, Container, EventData, EventType, Policy, Quota } from "../api.ts"
import type { ContainerSpec, Network } from "../container.ts"
import type { Feature } from "../features.ts"
import type {
  CellId, ContainerId, EventId, NodeId, RegistryCredentialId, RunId, TenantId, TokenId, TrustId, WebhookId,
} from "../ids.ts" // prettier-ignore
import type { Desired, RunState, Status } from "../lifecycle.ts"
import type { Exit, NoticeKind, Reason, Timings } from "../protocol.ts"
import type { DeliveryState } from "../webhooks.ts"
import type { AuthorizationDetails, TenantScope } from "../tokens.ts"
import { json } from "./columns.ts"

/** One row, from `configure`. */
export const settings = sqliteTable("settings", {
  id: integer().primaryKey(),
  tenant_id: text().$type<TenantId>().notNull(),
  name: text().notNull(),
  quota: json<Quota>("quota").notNull(),
  policy: json<Policy>("policy")
    .notNull()
    .default({ capabilities: "default", on_deviation: "report", vulnerable_nodes: "allow" }),
  /** Of the directory's row: an older one that comes late changes nothing. */
  revision: integer().notNull().default(0),
  cells: json<CellId[]>("cells").notNull(),
})

export const containers = sqliteTable(
  "containers",
  {
    id: text().$type<ContainerId>().primaryKey(),
    name: text(),
    spec: json<ContainerSpec>("spec").notNull(),
    /** Copies of spec.resources, so that quotas are summed without reading specs. */
    cpus: real().notNull(),
    memory_bytes: integer().notNull(),
    created_at_ms: integer().notNull(),
    /* The tenant's calls. */
    desired: text().$type<Desired>().notNull(),
    desired_since_ms: integer().notNull(),
    paused: integer({ mode: "boolean" }).notNull(),
    /** The last stop's own timeout; null leaves the spec's. */
    stop_timeout_seconds: integer(),
    /** A new run was asked for by `restart` and waits for the old one to end. */
    restarting: integer({ mode: "boolean" }).notNull(),
    /* plan.ts, when a run ends or begins. */
    latest_run_id: text().$type<RunId>(),
    next_run_at_ms: integer(),
    /** Runs that the restart policy started since the last start by hand. */
    restarts: integer().notNull(),
    /** How many times the back-off has doubled. */
    backoff_step: integer().notNull(),
    /** Runs in a row that were given up before they came to `running`. */
    lost_attempts: integer().notNull(),
    /** Its last ended runs, oldest first. */
    history: json<Container["history"]>("history").notNull().default([]),
    /** What the first run resolved the image to; every later run keeps it. */
    image_digest: text(),
    /* plan.ts, derived from the rest at every change. */
    status: text().$type<Status>().notNull(),
    /** Counts against the quota. */
    active: integer({ mode: "boolean" }).notNull(),
    /** When something falls due by time alone: a deadline, the next run. */
    wake_at_ms: integer(),
    removed_at_ms: integer(),
  },
  (table) => [
    uniqueIndex("containers_live_name")
      .on(table.name)
      .where(sql`removed_at_ms is null`),
    index("containers_active")
      .on(table.cpus, table.memory_bytes)
      .where(sql`active = 1`),
    index("containers_wake")
      .on(table.wake_at_ms)
      .where(sql`wake_at_ms is not null`),
    index("containers_removed")
      .on(table.removed_at_ms)
      .where(sql`removed_at_ms is not null`),
  ],
)

export const runs = sqliteTable(
  "runs",
  {
    id: text().$type<RunId>().primaryKey(),
    container_id: text().$type<ContainerId>().notNull(),
    attempt: integer().notNull(),
    created_at_ms: integer().notNull(),
    /** The cell that it asks, or that placed it; on record before it is asked. Null: none was chosen yet. */
    cell_id: text().$type<CellId>(),
    /* The CellObject's answer. */
    node_id: text().$type<NodeId>(),
    region: text(),
    devices: json<string[] | null>("devices"),
    /** What the profile can do there. */
    features: json<Feature[] | null>("features"),
    /** The tenant's policy when the cell was asked; it holds for this run to its end. Null: not placed yet. */
    policy: json<Policy | null>("policy"),
    /* The owner of each state (schema/lifecycle.ts): placement, the node's reports, the lease. */
    state: text().$type<RunState>().notNull(),
    since_ms: integer().notNull(),
    revision: integer().notNull(),
    paused: integer({ mode: "boolean" }).notNull(),
    /** Its node is cut off for longer than its lease, and the run is kept: nobody knows how it is. From the NodeObject. */
    cut_off: integer({ mode: "boolean" }).notNull().default(false),
    /** Its node is being emptied: why. From the NodeObject. */
    evacuating: json<Reason | null>("evacuating"),
    /** False once nothing of it is left on its node, or its node was given up. */
    present: integer({ mode: "boolean" }).notNull(),
    reason: json<Reason | null>("reason"),
    exit: json<Exit | null>("exit"),
    image_digest: text(),
    started_at_ms: integer(),
    finished_at_ms: integer(),
    timings: json<Timings>("timings").notNull(),
    /* plan.ts: what the node is to make true. */
    wish_desired: text().$type<Desired>().notNull(),
    wish_paused: integer({ mode: "boolean" }).notNull(),
    wish_stop_timeout_seconds: integer(),
    /** Null until it is placed. */
    wish_network: json<Network | null>("wish_network"),
    /* Outbox: set with the change that calls for it, cleared by saga.ts once the other object has answered. */
    assign_due: integer({ mode: "boolean" }).notNull(),
    release_due: integer({ mode: "boolean" }).notNull(),
    /** When the alarm takes the outbox up if nobody did before; null when it is empty. */
    retry_at_ms: integer(),
  },
  (table) => [
    index("runs_container").on(table.container_id),
    index("runs_retry")
      .on(table.retry_at_ms)
      .where(sql`retry_at_ms is not null`),
  ],
)

/** Append-only; written in the transaction of the change it tells of. */
export const events = sqliteTable(
  "events",
  {
    /** The cursor. Never used twice, so a reader's place stays right after old rows are collected. */
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().$type<EventId>().notNull(),
    type: text().$type<EventType>().notNull(),
    time_ms: integer().notNull(),
    container_id: text().$type<ContainerId>(),
    container_name: text(),
    run_id: text().$type<RunId>(),
    data: json<EventData>("data").notNull(),
  },
  (table) => [uniqueIndex("events_id").on(table.id), index("events_container").on(table.container_id)],
)

/** Which of a node's notices were told as events: a node repeats what was not acknowledged. Written with the event. */
export const notices = sqliteTable(
  "notices",
  {
    run_id: text().$type<RunId>().notNull(),
    id: text().notNull(),
    kind: text().$type<NoticeKind>().notNull(),
  },
  (table) => [primaryKey({ columns: [table.run_id, table.id] })],
)

export const idempotency = sqliteTable(
  "idempotency",
  {
    subject: text().notNull(),
    key: text().notNull(),
    fingerprint: text().notNull(),
    container_id: text().$type<ContainerId>().notNull(),
    status: integer().notNull(),
    /** Null from the commit of the change until its answer is known; after a crash in between the view is rendered anew. */
    answer: json<Container | BatchAnswer | null>("answer"),
    expires_at_ms: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.subject, table.key] }), index("idempotency_expiry").on(table.expires_at_ms)],
)

export interface WebhookKeys {
  /** The HMAC secret and the private Ed25519 key (JWK), sealed. */
  readonly sealed: string
  /** base64 of the raw public key. */
  readonly public_key: string
  /** Null for those in force; the previous ones sign beside them until then. */
  readonly until_ms: number | null
}

export const webhooks = sqliteTable("webhooks", {
  id: text().$type<WebhookId>().primaryKey(),
  created_at_ms: integer().notNull(),
  /* The tenant's calls. */
  url: text().notNull(),
  types: json<string[]>("types").notNull(),
  labels: json<Record<string, string>>("labels").notNull(),
  description: text().notNull(),
  keys: json<WebhookKeys[]>("keys").notNull(),
  /* The courier, and the tenant's `enabled`. Null: enabled. */
  disabled_reason: text(),
  /* The courier. */
  /** The last event that was tried for the first time, or does not concern it. */
  seq: integer().notNull(),
  /** Nothing is sent before; from an answer that asked for patience. */
  hold_until_ms: integer().notNull().default(0),
  /** Attempts in a row that failed. */
  failures: integer().notNull().default(0),
  failing_since_ms: integer(),
  last_attempt_ms: integer(),
  last_success_ms: integer(),
})

/** One event's way to one endpoint, from its first attempt on; earlier, the endpoint's `seq` stands for it. From the courier. */
export const deliveries = sqliteTable(
  "deliveries",
  {
    webhook_id: text().$type<WebhookId>().notNull(),
    seq: integer().notNull(),
    state: text().$type<DeliveryState>().notNull(),
    /** Attempts since it was first tried, or replayed. */
    tries: integer().notNull(),
    first_attempt_ms: integer().notNull(),
    last_attempt_ms: integer().notNull(),
    next_attempt_ms: integer(),
  },
  (table) => [
    primaryKey({ columns: [table.webhook_id, table.seq] }),
    index("deliveries_due")
      .on(table.webhook_id, table.next_attempt_ms)
      .where(sql`next_attempt_ms is not null`),
    index("deliveries_age").on(table.last_attempt_ms),
  ],
)

export const deliveryAttempts = sqliteTable(
  "delivery_attempts",
  {
    id: integer().primaryKey({ autoIncrement: true }),
    webhook_id: text().$type<WebhookId>().notNull(),
    seq: integer().notNull(),
    at_ms: integer().notNull(),
    status_code: integer(),
    error: text(),
    latency_ms: integer().notNull(),
    answer: text().notNull(),
  },
  (table) => [index("delivery_attempts_of").on(table.webhook_id, table.seq)],
)

/** Ranges of events that a tenant asked to have delivered again. From the tenant's call; `seq` moves on with the courier. */
export const replays = sqliteTable("replays", {
  id: integer().primaryKey({ autoIncrement: true }),
  webhook_id: text().$type<WebhookId>().notNull(),
  seq: integer().notNull(),
  until_seq: integer().notNull(),
})

/** Tokens issued for this tenant, as its owner sees them. The tokens themselves are kept nowhere. Written by `tokens.ts`. */
export const tokens = sqliteTable(
  "tokens",
  {
    id: text().$type<TokenId>().primaryKey(),
    name: text().notNull(),
    scopes: json<TenantScope[]>("scopes").notNull(),
    details: json<AuthorizationDetails | null>("details"),
    /** What it was made from, the nearest first: tokens, and at the end perhaps a trust. */
    chain: json<(TokenId | TrustId)[]>("chain").notNull(),
    created_at_ms: integer().notNull(),
    expires_at_ms: integer().notNull(),
    /** Coarse: written at most once an hour. */
    last_used_at_ms: integer(),
    revoked_at_ms: integer(),
  },
  (table) => [index("tokens_expiry").on(table.expires_at_ms)],
)

/** Tokens and trusts that were revoked, for as long as something made from them could still be valid. */
export const revocations = sqliteTable("revocations", {
  id: text().$type<TokenId | TrustId>().primaryKey(),
  until_ms: integer().notNull(),
})

/** DPoP proofs (RFC 9449) that were shown, for as long as they could be shown again. */
export const proofs = sqliteTable(
  "proofs",
  {
    /** SHA-256 of the key's thumbprint and the proof's `jti`. */
    id: text().primaryKey(),
    /** One request may ask the object several things; its proof counts once. */
    request_id: text().notNull(),
    until_ms: integer().notNull(),
  },
  (table) => [index("proofs_until").on(table.until_ms)],
)

export const registryCredentials = sqliteTable("registry_credentials", {
  id: text().$type<RegistryCredentialId>().primaryKey(),
  registry: text().notNull(),
  username: text().notNull(),
  /** The password. Its key is in no database. */
  sealed: text().notNull(),
  created_at_ms: integer().notNull(),
  /** When a node fetched it. */
  last_used_ms: integer(),
})

/** Append-only and chained: each row holds the hash of the one before (schema/audit.ts). From every mutating or denied call. */
export const auditEntries = sqliteTable("audit_entries", {
  seq: integer().primaryKey(),
  time_ms: integer().notNull(),
  subject: text().notNull(),
  token_id: text().notNull(),
  request_id: text().notNull(),
  operation: text().notNull(),
  target: text(),
  result: text().notNull(),
  previous: text().notNull(),
  hash: text().notNull(),
})
