/** The HTTP API's views and queries, as plain zod with OpenAPI descriptions in `.meta()`. Request bodies of containers: container.ts. */
import { z } from "zod"
import {
  Capability,
  ContainerCreate,
  ContainerName,
  Labels,
  Network,
  PlacementWish,
  Profile,
  Resources,
  RestartPolicy,
  Seccomp,
  SignalName,
  StopPolicy,
} from "./container.ts"
import { CellId, ContainerId, EventId, JoinTokenId, NodeId, RegistryCredentialId, RunId, TenantId, WebhookId } from "./ids.ts"
import { ACTIONS, ALL_RUN_STATES, STATUSES } from "./lifecycle.ts"
import { NodeCondition, NodeFacts } from "./node.ts"
import { Exit, Reason, Timings } from "./protocol.ts"

/** Bodies above this are refused before they are parsed. */
export const MAX_BODY_BYTES = 1024 * 1024
export const MAX_PAGE = 1000
export const DEFAULT_PAGE = 100
/** How long an `Idempotency-Key` is remembered. */
export const IDEMPOTENCY_SECONDS = 24 * 3600
/** Longest `wait`; a client that needs longer asks again. */
export const MAX_WAIT_SECONDS = 300
/** Events are kept this long. */
export const EVENT_RETENTION_SECONDS = 30 * 24 * 3600
/** A removed container can still be read this long. */
export const REMOVED_RETENTION_SECONDS = 24 * 3600

const Time = z.iso.datetime().meta({ description: "RFC 3339, UTC." })

export const Problem = z
  .object({
    type: z.string(), title: z.string(), status: z.int(), detail: z.string(), code: z.string(), retryable: z.boolean(),
    errors: z.array(z.object({ pointer: z.string(), message: z.string() })), request_id: z.string(),
  })
  .meta({ id: "Problem", description: "RFC 9457 problem details." }) // prettier-ignore

export const RunDetails = z
  .object({
    id: RunId,
    state: z.enum(ALL_RUN_STATES),
    node_region: z.string().nullable().meta({ description: "The region label of the node; which node it is stays ours." }),
    image_digest: z.string().nullable(),
    attempt: z.int().meta({ description: "1 for the container's first run." }),
    created_at: Time,
    accelerators: z.array(z.string()).meta({ description: "The devices it was given, by their CDI names." }),
    started_at: Time.nullable(),
    finished_at: Time.nullable(),
    exit: Exit.nullable(),
    timings: Timings.meta({ description: "Milliseconds of each step, in order: the platform's, then the node's." }),
  })
  .meta({ id: "Run" })
export type RunDetails = z.infer<typeof RunDetails>

export const Container = z
  .object({
    id: ContainerId,
    name: ContainerName.nullable(),
    status: z.enum(STATUSES),
    reason: Reason.nullable(),
    since: Time,
    deadline: Time.nullable(),
    actions: z.array(z.enum(ACTIONS)),
    run: RunDetails.nullable(),
    history: z
      .array(
        z.object({
          run_id: RunId,
          attempt: z.int(),
          state: z.enum(ALL_RUN_STATES),
          node_region: z.string().nullable(),
          reason: Reason.nullable(),
          ended_at: Time,
        }),
      )
      .meta({ description: "Its last ended runs, oldest first, and why each ended." }),
    restarts: z.int().meta({ description: "Runs that the restart policy started since the last start by hand." }),
    warnings: z.array(z.string()),
    created_at: Time,
    image: z.string(),
    registry_credential: RegistryCredentialId.nullable(),
    command: z.array(z.string()).nullable(),
    args: z.array(z.string()).nullable(),
    env: z.record(z.string(), z.string()),
    workdir: z.string().nullable(),
    user: z.string().nullable(),
    labels: Labels,
    resources: Resources,
    restart: RestartPolicy,
    stop: StopPolicy,
    profile: Profile,
    read_only: z.boolean(),
    tty: z.boolean(),
    network: Network,
    capabilities: z.array(Capability),
    seccomp: Seccomp,
    placement: PlacementWish,
    on_partition: z.enum(["stop", "keep"]),
    drain: z.enum(["stop_first", "start_first"]),
    max_lifetime_seconds: z.int().nullable(),
    remove_on_exit: z.boolean(),
    identity: z.boolean(),
  })
  .meta({ id: "Container" })
export type Container = z.infer<typeof Container>

const flag = z.enum(["true", "false", "1", "0", ""]).transform((value) => value !== "false" && value !== "0")

export const BatchAnswer = z
  .object({ items: z.array(z.object({ id: ContainerId, name: ContainerName.nullable(), status: z.enum(STATUSES) })) })
  .meta({ id: "BatchAnswer" })
export type BatchAnswer = z.infer<typeof BatchAnswer>

/** How many nodes one filter refused, by its sentence. */
export const Refused = z.object({ reason: z.string(), nodes: z.int() })
export type Refused = z.infer<typeof Refused>

export const CreateQuery = z.strictObject({
  dry_run: flag.optional().meta({ description: "Only ask where it would go; nothing is created." }),
})
export const DryRun = z
  .object({
    placeable: z.boolean().meta({ description: "Whether one node at least could take it now. Nothing is reserved." }),
    fitting_nodes: z.int(),
    node_region: z.string().nullable().meta({ description: "Where it would go now." }),
    refused: z.array(Refused).meta({ description: "Why not elsewhere: how many nodes for which reason, most first." }),
    warnings: z.array(z.string()),
  })
  .meta({ id: "DryRun" })
export type DryRun = z.infer<typeof DryRun>

export const page = <T extends z.ZodType>(item: T, id: string) =>
  z.object({ items: z.array(item), next_cursor: z.string().nullable() }).meta({ id })
export interface Page<T> {
  items: T[]
  next_cursor: string | null
}

/**
 * A number in a query, which comes as text: plain decimal digits and nothing else that JavaScript would take for a number, such
 * as nothing at all, spaces, or a hexadecimal one. Give it the number's own bounds.
 */
export const fromQuery = <T extends z.ZodType>(number: T) =>
  z.preprocess((text) => (typeof text === "string" && /^-?\d{1,15}(\.\d{1,9})?$/.test(text) ? Number(text) : text), number)

export const PageQuery = z.strictObject({
  cursor: z.string().max(512).optional().meta({ description: "`next_cursor` of the page before." }),
  limit: fromQuery(z.int().min(1).max(MAX_PAGE)).default(DEFAULT_PAGE),
})

/** Labels that one list may ask for; each costs a lookup in every container. */
const MAX_LABEL_CONDITIONS = 16

/** `label=key=value` or `label=key`, repeatable: all must match. */
export const ContainerListQuery = PageQuery.extend({
  label: z
    .union([z.string(), z.array(z.string()).max(MAX_LABEL_CONDITIONS)])
    .optional()
    .meta({ description: "`key` or `key=value`; repeat it to ask for several." }),
  status: z.enum(STATUSES).optional().meta({ description: "Without it, all but removed containers." }),
})

export const WaitQuery = z.strictObject({
  status: z
    .enum([...STATUSES, "settled"])
    .default("running")
    .meta({ description: "`settled`: any status that does not pass by itself." }),
  run: RunId.optional().meta({ description: "Only this run counts; needed to tell the exit of one run from another's." }),
  timeout: fromQuery(z.number().min(0).max(MAX_WAIT_SECONDS)).default(60),
})

export const LogsQuery = z.strictObject({
  follow: flag.optional(),
  since: z.string().max(40).optional().meta({ description: "RFC 3339 time, or seconds ago such as `90` or `90s`." }),
  tail: z.union([z.literal("all"), fromQuery(z.int().min(0).max(1_000_000))]).default("all"),
  stream: z.enum(["stdout", "stderr"]).optional(),
  timestamps: flag.optional(),
  run: RunId.optional().meta({ description: "One run's lines; without it those of all runs that are kept, oldest first." }),
})

export const StopBody = z.strictObject({ timeout_seconds: z.int().min(0).max(3600).optional() }).meta({ id: "StopBody" })
export const KillBody = z.strictObject({ signal: SignalName.default("SIGKILL") }).meta({ id: "KillBody" })
export const ForceQuery = z.strictObject({ force: flag.optional() })

export const EVENT_TYPES = [
  "container.created", "container.scheduling", "container.pulling", "container.starting", "container.running",
  "container.paused", "container.unpaused", "container.stopping", "container.exited", "container.lost", "container.removed",
  "container.restart_scheduled", "container.unplaceable", "container.deadline_passed", "container.updated",
  "container.gave_up", "container.draining", "container.unreachable", "container.reachable",
  "container.isolation_deviated", "container.accelerator_lost", "container.disk_full", "container.logs_throttled",
  "webhook.disabled", "webhook.test",
] as const // prettier-ignore
export type EventType = (typeof EVENT_TYPES)[number]

/** What an event tells beside its type; each type fills in what it has. */
export const EventData = z.object({
  reason: Reason.nullable().optional(),
  exit: Exit.nullable().optional(),
  image: z.string().optional(),
  image_digest: z.string().optional(),
  attempt: z.int().optional(),
  next_run_at: z.iso.datetime().optional(),
  network: Network.optional(),
  webhook_id: WebhookId.optional(),
})
export type EventData = z.infer<typeof EventData>

export const Event = z
  .object({
    id: EventId,
    type: z.enum(EVENT_TYPES),
    time: Time,
    container_id: ContainerId.nullable(),
    container_name: z.string().nullable(),
    run_id: RunId.nullable(),
    data: EventData,
    cursor: z.string().meta({ description: "Pass it as `after` to read on from here." }),
  })
  .meta({ id: "Event" })
export type Event = z.infer<typeof Event>

export const EventsQuery = z.strictObject({
  after: z.string().max(64).optional().meta({ description: "A cursor or an event id; without it from the oldest kept." }),
  types: z.string().max(1024).optional().meta({ description: "Comma-separated; `container.*` matches all of a kind." }),
  container: z.string().max(63).optional(),
  limit: fromQuery(z.int().min(1).max(MAX_PAGE)).default(DEFAULT_PAGE),
  follow: flag.optional(),
})

/* Operators. */

const QUOTA = {
  containers: z.int().min(0),
  cpus: z.number().min(0),
  memory_bytes: z.int().min(0),
  disk_bytes: z.int().min(0),
  accelerators: z.record(z.string().max(128), z.int().min(0)).meta({
    description:
      "By the kind of device; `*` for the kinds that are not named. A container that would take one of several kinds counts as each.",
  }),
  creates_per_minute: z.int().min(0),
  events: z.int().min(1000).meta({ description: "As many are kept at the most; the oldest go first." }),
}
export const Quota = z
  .strictObject({
    containers: QUOTA.containers.default(1000),
    cpus: QUOTA.cpus.default(1000),
    memory_bytes: QUOTA.memory_bytes.default(1024 ** 4),
    disk_bytes: QUOTA.disk_bytes.default(100 * 1024 ** 4),
    accelerators: QUOTA.accelerators.default({ "*": 1000 }),
    creates_per_minute: QUOTA.creates_per_minute.default(60_000),
    events: QUOTA.events.default(5_000_000),
  })
  .meta({ id: "Quota", description: "What the tenant's containers may ask for in all, from a start until the run has ended." })
export type Quota = z.infer<typeof Quota>

/** A tenant's quota, and how much of each part is in use. */
export const QuotaUse = z
  .object({
    quota: Quota,
    used: z.object({
      containers: z.int(),
      cpus: z.number(),
      memory_bytes: z.int(),
      disk_bytes: z.int(),
      accelerators: z.record(z.string(), z.int()),
      creates_in_last_minute: z.int(),
      events: z.int(),
    }),
  })
  .meta({ id: "QuotaUse" })
export type QuotaUse = z.infer<typeof QuotaUse>

const POLICY = {
  capabilities: z
    .enum(["default", "none"])
    .meta({ description: "none: no container may have a capability, and one that names some is refused." }),
  on_deviation: z.enum(["report", "stop"]).meta({
    description: "What becomes of a run that is found less confined than its profile promises; an event tells of either.",
  }),
  vulnerable_nodes: z.enum(["allow", "refuse"]).meta({
    description:
      "refuse: nothing is placed on a node whose kernel or runtimes have a known vulnerability, by their version numbers.",
  }),
}
/** What an operator demands of everything that a tenant runs. */
export const Policy = z
  .strictObject({
    capabilities: POLICY.capabilities.default("default"),
    on_deviation: POLICY.on_deviation.default("report"),
    vulnerable_nodes: POLICY.vulnerable_nodes.default("allow"),
  })
  .meta({ id: "Policy", description: "A change holds for runs that are placed from then on." })
export type Policy = z.infer<typeof Policy>

export const TenantCreate = z
  .strictObject({ name: ContainerName, quota: Quota.prefault({}), policy: Policy.prefault({}) })
  .meta({ id: "TenantCreate" })
export type TenantCreate = z.infer<typeof TenantCreate>
/** A field left out stays as it is (RFC 7396). */
export const TenantUpdate = z
  .strictObject({ quota: z.strictObject(QUOTA).partial().optional(), policy: z.strictObject(POLICY).partial().optional() })
  .meta({ id: "TenantUpdate" })
export type TenantUpdate = z.infer<typeof TenantUpdate>
export const Tenant = z
  .object({ id: TenantId, name: z.string(), quota: Quota, policy: Policy, created_at: Time })
  .meta({ id: "Tenant" })
export type Tenant = z.infer<typeof Tenant>

export { OPERATOR_SCOPE, type Scope, TENANT_SCOPES } from "./tokens.ts"

/** The weights of the scorers (each scores in [0, 1]); the node with the greatest weighted sum takes the run. */
const WEIGHT = z.number().min(0).max(10)
export const SCORERS = ["spread", "bin_pack", "balance", "image", "failures"] as const
export const Weights = z
  .strictObject({
    spread: WEIGHT.default(1).meta({ description: "The less of a node is reserved, the better." }),
    bin_pack: WEIGHT.default(0).meta({ description: "The more of it is reserved, the better." }),
    balance: WEIGHT.default(0.5).meta({ description: "Processors and memory used alike." }),
    image: WEIGHT.default(0.5).meta({ description: "The image has been run there before." }),
    failures: WEIGHT.default(1).meta({ description: "Runs have not failed there lately through no fault of their own." }),
  })
  .meta({ id: "Weights" })
export type Weights = z.infer<typeof Weights>

export const CellCreate = z.strictObject({ name: ContainerName, weights: Weights.prefault({}) }).meta({ id: "CellCreate" })
export type CellCreate = z.infer<typeof CellCreate>
export const CellUpdate = z
  .strictObject({
    weights: z
      .strictObject(Object.fromEntries(SCORERS.map((name) => [name, WEIGHT])) as Record<(typeof SCORERS)[number], typeof WEIGHT>)
      .partial(),
  })
  .meta({ id: "CellUpdate" })
export type CellUpdate = z.infer<typeof CellUpdate>

/** What a cell's ready nodes have in all, and how much of it is free. Rough: free room may lie in pieces. */
export const Room = z.object({
  nodes: z.int(),
  ready_nodes: z.int(),
  runs: z.int(),
  cpus: z.number(),
  free_cpus: z.number(),
  memory_bytes: z.int(),
  free_memory_bytes: z.int(),
})
export type Room = z.infer<typeof Room>
export const Cell = z
  .object({ id: CellId, name: z.string(), weights: Weights, room: Room, created_at: Time })
  .meta({ id: "Cell" })
export type Cell = z.infer<typeof Cell>

/** What an operator asks of placement for a tenant: node by node. */
export const OperatorDryRunCreate = z
  .strictObject({ tenant_id: TenantId, container: ContainerCreate })
  .meta({ id: "OperatorDryRunCreate" })
export const OperatorDryRun = z
  .object({
    node_id: NodeId.nullable().meta({ description: "Where it would go now." }),
    nodes: z
      .array(
        z.object({
          node_id: NodeId,
          cell_id: CellId,
          reason: z.string().nullable().meta({ description: "Why not there; null where it fits." }),
          score: z.number().nullable(),
          scores: z.record(z.string(), z.number()).meta({ description: "Each scorer's part, unweighted." }),
        }),
      )
      .meta({ description: "Best first; at most 1,000." }),
  })
  .meta({ id: "OperatorDryRun" })
export type OperatorDryRun = z.infer<typeof OperatorDryRun>

export const CordonBody = z.strictObject({ reason: z.string().min(1).max(256).optional() }).meta({ id: "CordonBody" })
export const DrainBody = z
  .strictObject({
    deadline_seconds: z
      .int()
      .min(0)
      .max(7 * 86_400)
      .default(3600)
      .meta({ description: "After so long, what is still there is stopped, restart policy `no` included." }),
  })
  .meta({ id: "DrainBody" })
/** A field left out stays as it is; null takes it away (RFC 7396). */
export const NodeUpdate = z
  .strictObject({
    exclusive_to: z.array(TenantId).min(1).max(64).nullable().optional().meta({
      description: "Only these tenants' containers go there from now on; null: everybody's.",
    }),
    cell_id: CellId.optional().meta({ description: "Moves the node to another cell; it must be drained first." }),
  })
  .meta({ id: "NodeUpdate" })
export type NodeUpdate = z.infer<typeof NodeUpdate>

export const JoinTokenCreate = z
  .strictObject({
    cell_id: CellId.optional().meta({ description: "Default: the first cell." }),
    labels: Labels.default({}),
    expires_in_seconds: z.int().min(60).max(86_400).default(3600),
  })
  .meta({ id: "JoinTokenCreate" })
export const JoinTokenAnswer = z
  .object({ id: JoinTokenId, join_token: z.string().meta({ description: "Shown once, usable once." }), expires_at: Time })
  .meta({ id: "JoinToken" })

export const NodeView = z
  .object({
    id: NodeId,
    cell_id: CellId,
    hostname: z.string(),
    connected: z.boolean(),
    accepting: z.boolean(),
    reason: Reason.nullable(),
    enrolled_at: Time,
    last_seen_at: Time.nullable(),
    conditions: z.array(NodeCondition).meta({ description: "What the host finds wrong with itself; any keeps new runs away." }),
    cordoned: z.boolean().meta({ description: "Its operator lets nothing new be placed there." }),
    drain: z
      .object({ since: Time, deadline: Time, runs_at_start: z.int(), runs_left: z.int() })
      .nullable()
      .meta({ description: "How far emptying it has come." }),
    exclusive_to: z.array(TenantId).nullable(),
    facts: NodeFacts.nullable(),
    vulnerabilities: z
      .array(z.object({ component: z.string(), version: z.string(), id: z.string(), fixed_in: z.string(), summary: z.string() }))
      .meta({ description: "Known ones of the versions that the node reports." }),
    reserved: z.object({
      runs: z.int(),
      cpus: z.number(),
      memory_bytes: z.int(),
      pids: z.int(),
      disk_bytes: z.int(),
      devices: z.array(z.string()),
    }),
  })
  .meta({ id: "Node" })
export type NodeView = z.infer<typeof NodeView>
