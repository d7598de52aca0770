/**
 * The node protocol: what a node-bridge and its NodeObject say over the WebSocket that the bridge dials.
 *
 * Text messages are JSON, one of the unions below. Binary messages are stream data: a 4-byte big-endian stream number, then
 * bytes. The text `ping` is answered `pong` by the platform without waking any object: that is the heartbeat.
 *
 * A session begins with `hello`, then `welcome`, then the `complete` set of assignments; `increment`s follow, chained by
 * `applies_to` and `results_in`. Whoever sees a mismatch, or anything that it cannot read, closes the socket: sessions are
 * disposable, and a new one starts from the complete set. Reports are at-least-once: one that is not acknowledged is sent
 * again, and an observation that is not news is ignored.
 */
import { z } from "zod"
import { Capability, ContainerCreate, DeviceName, SignalName } from "./container.ts"
import { ContainerId, NodeId, RegistryCredentialId, RunId, TenantId } from "./ids.ts"
import { ALL_RUN_STATES, DESIRED } from "./lifecycle.ts"
import { NodeCondition, NodeFacts } from "./node.ts"

export const PROTOCOL_VERSION = 3
/** Sent as `sec-websocket-protocol`; a NodeObject that does not know the version answers 400. */
export const SUBPROTOCOL = `berth.node.v${PROTOCOL_VERSION}`

/** A Durable Object takes messages of up to 32 MiB; ours stay far below, so that no peer must hold so much. */
export const MAX_TEXT_MESSAGE_BYTES = 4 * 1024 * 1024
export const MAX_STREAM_CHUNK_BYTES = 64 * 1024
/** Assignments in one `complete` message; a larger set is sent in parts, the last with `more: false`. */
export const MAX_ASSIGNMENTS_PER_MESSAGE = 200
export const MAX_OBSERVATIONS_PER_REPORT = 200

export const HEARTBEAT_SECONDS = 5
/** The platform gives up a node's runs after this long without a heartbeat. */
export const LEASE_SECONDS = 45
/** The node stops its runs by its own clock this much earlier: time for clock drift and for the stops themselves. */
export const LEASE_MARGIN_SECONDS = 15

export const HEARTBEAT_REQUEST = "ping"
export const HEARTBEAT_RESPONSE = "pong"

export const CLOSE = {
  protocol_error: 4400,
  unauthenticated: 4401,
  replaced: 4409, // a newer session of the same node took over
  forgotten: 4410, // the operator forgot this node: do not come back with this key
  resync: 4412, // assignments did not chain: connect again for the complete set
  version: 4426,
} as const

const {
  image,
  command,
  args,
  env,
  workdir,
  user,
  labels,
  resources,
  restart: _restart,
  stop,
  profile,
  read_only,
  tty,
  network,
  seccomp,
} = ContainerCreate.shape

/** What a run needs to be made true on a host, free of anything about other runs of the same container. */
export const RunSpec = z.strictObject({
  image,
  /** The digest that an earlier run of this container resolved; a new run keeps it, whatever the tag says by now. */
  image_digest: z.string().nullable(),
  /** What to ask the platform for before a pull: the secret itself is in no assignment, and so in no journal. */
  registry_credential: RegistryCredentialId.nullable().default(null),
  hostname: z.string().max(63),
  command, args, env, workdir, user, labels, resources, stop, profile, read_only, tty, network, seccomp,
  capabilities: z.array(Capability),
  /** What the tenant's policy makes of a process that is found less confined than promised. */
  on_deviation: z.enum(["report", "stop"]),
  max_lifetime_seconds: z.int().nullable(),
  /** Whether it finds a socket at which it learns who it is (schema/identity.ts). */
  identity: z.boolean().default(false),
  /** What becomes of it when the node's lease has run out. */
  on_partition: z.enum(["stop", "keep"]).default("stop"),
}) // prettier-ignore
export type RunSpec = z.infer<typeof RunSpec>

export const Reason = z.strictObject({ code: z.string().max(64), message: z.string().max(2048) })
export type Reason = z.infer<typeof Reason>

export const Assignment = z.strictObject({
  run_id: RunId,
  container_id: ContainerId,
  tenant_id: TenantId,
  desired: z.enum(DESIRED),
  paused: z.boolean(),
  /** Overrides the spec's stop timeout, as `stop?timeout=` and `kill` do; null leaves it. */
  stop_timeout_seconds: z.int().min(0).nullable(),
  /** Why it is to be stopped, where that is the platform's doing; null: the tenant's. */
  stop_reason: Reason.nullable().default(null),
  /** Devices that placement chose; nobody else's while the run lasts. */
  devices: z.array(DeviceName),
  /** Of one run only `network` may differ from what was sent before: it is changed in place. */
  spec: RunSpec,
})
export type Assignment = z.infer<typeof Assignment>

/** How a run ended, and by whose doing. */
export const Exit = z.strictObject({
  /** As a shell would say it: the exit code, or 128 + signal; null when the process never ran or its code was lost. */
  code: z.int().nullable(),
  signal: z.string().nullable(),
  oom_killed: z.boolean(),
  /** process: by itself. tenant: stop, kill, restart, delete. platform: lifetime, lease, drain. host: it failed or went down. */
  by: z.enum(["process", "tenant", "platform", "host"]),
  /** The last lines of both streams, oldest first. */
  log_tail: z.array(z.string().max(1024)).max(10),
})
export type Exit = z.infer<typeof Exit>

/** Milliseconds that each step of a run took on its node, by the step's name, in order. */
export const Timings = z.record(z.string(), z.number())
export type Timings = z.infer<typeof Timings>

export const Observation = z.strictObject({
  run_id: RunId,
  state: z.enum(ALL_RUN_STATES),
  revision: z.int().min(0),
  paused: z.boolean(),
  /** When the node made the observation, Unix milliseconds by its clock. */
  at_ms: z.int(),
  reason: Reason.nullable(),
  exit: Exit.nullable(),
  image_digest: z.string().nullable(),
  started_at_ms: z.int().nullable(),
  finished_at_ms: z.int().nullable(),
  timings: Timings,
})
export type Observation = z.infer<typeof Observation>

export const NOTICE_KINDS = ["isolation_deviated", "accelerator_lost", "disk_full", "logs_throttled"] as const
export type NoticeKind = (typeof NOTICE_KINDS)[number]
/** Something that happened to a run without changing its state. Told at least once; `id` tells repeats apart. */
export const Notice = z.strictObject({
  id: z.string().max(64),
  run_id: RunId,
  kind: z.enum(NOTICE_KINDS),
  at_ms: z.int(),
  reason: Reason,
})
export type Notice = z.infer<typeof Notice>

export const LogOptions = z.strictObject({
  follow: z.boolean(),
  /** Unix milliseconds; older lines are left out. */
  since_ms: z.int().nullable(),
  /** Only the last so many lines of what is there; null for all. */
  tail: z.int().min(0).nullable(),
  streams: z.array(z.enum(["stdout", "stderr"])).min(1),
  /** Resume after this entry's cursor. */
  after: z.string().max(128).nullable(),
})
export type LogOptions = z.infer<typeof LogOptions>

/** One line of a log stream, sent as NDJSON. A line longer than conmon's buffer comes in parts, `partial` on all but the last. */
export const LogEntry = z.strictObject({
  run_id: RunId,
  /** RFC 3339 with nanoseconds, as conmon wrote it. */
  time: z.string(),
  stream: z.enum(["stdout", "stderr"]),
  partial: z.boolean(),
  text: z.string(),
  /** Opaque; orders and resumes: pass it as `after`. */
  cursor: z.string(),
})
export type LogEntry = z.infer<typeof LogEntry>

export const Command = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("signal"), signal: SignalName }),
  z.strictObject({ kind: z.literal("isolation") }),
])
export type Command = z.infer<typeof Command>

/** Whether new runs may come, without ending the session: none while the host finds anything wrong with itself. */
export const Condition = z.strictObject({
  accepting: z.boolean(),
  reason: Reason.nullable(),
  conditions: z.array(NodeCondition).max(16),
})
export type Condition = z.infer<typeof Condition>

export const NodeMessage = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("hello"),
    protocol: z.int(),
    bridge_version: z.string(),
    facts: NodeFacts,
    condition: Condition,
  }),
  z.strictObject({
    type: z.literal("report"),
    seq: z.int(),
    observations: z.array(Observation).max(MAX_OBSERVATIONS_PER_REPORT),
    /** Runs of which nothing is left on the host; their assignments may be forgotten. */
    gone: z.array(RunId).max(MAX_OBSERVATIONS_PER_REPORT),
    notices: z.array(Notice).max(MAX_OBSERVATIONS_PER_REPORT),
  }),
  /** Replaces the facts of the hello, when devices came, went or failed. The cell hears it before a tenant hears a later report. */
  z.strictObject({ type: z.literal("facts"), facts: NodeFacts }),
  z.strictObject({ type: z.literal("condition"), condition: Condition }),
  z.strictObject({ type: z.literal("command_result"), id: z.int(), error: Reason.nullable(), data: z.unknown() }),
  z.strictObject({ type: z.literal("stream_end"), stream: z.int(), error: Reason.nullable() }),
])
export type NodeMessage = z.infer<typeof NodeMessage>

export const PlatformMessage = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("welcome"),
    protocol: z.int(),
    node_id: NodeId,
    heartbeat_seconds: z.number(),
    lease_seconds: z.number(),
    lease_margin_seconds: z.number(),
  }),
  z.strictObject({ type: z.literal("complete"), results_in: z.int(), assignments: z.array(Assignment), more: z.boolean() }),
  /** New runs are being stored, and follow as an increment: the host may begin with what every start waits for. */
  z.strictObject({ type: z.literal("expect") }),
  z.strictObject({
    type: z.literal("increment"),
    applies_to: z.int(),
    results_in: z.int(),
    upsert: z.array(Assignment),
    remove: z.array(RunId),
  }),
  z.strictObject({ type: z.literal("report_ack"), seq: z.int() }),
  z.strictObject({ type: z.literal("command"), id: z.int(), run_id: RunId, command: Command }),
  /** The bridge may send this many bytes (NDJSON of `LogEntry`) before it needs more credit. */
  z.strictObject({
    type: z.literal("stream_open"),
    stream: z.int(),
    run_ids: z.array(RunId).min(1),
    logs: LogOptions,
    credit_bytes: z.int(),
  }),
  z.strictObject({ type: z.literal("stream_credit"), stream: z.int(), bytes: z.int() }),
  z.strictObject({ type: z.literal("stream_close"), stream: z.int() }),
])
export type PlatformMessage = z.infer<typeof PlatformMessage>

/** What the platform hands a reader before it has taken any of it; keeps a slow reader from filling an object's memory. */
export const STREAM_CREDIT_BYTES = 256 * 1024

/** Puts a stream's number before its bytes. */
export function encodeStreamChunk(stream: number, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(4 + bytes.length)
  new DataView(frame.buffer).setUint32(0, stream)
  frame.set(bytes, 4)
  return frame
}

/** The inverse of `encodeStreamChunk`; undefined when the frame is too short to name a stream. */
export function decodeStreamChunk(frame: ArrayBuffer | Uint8Array): { stream: number; bytes: Uint8Array } | undefined {
  const view = frame instanceof Uint8Array ? frame : new Uint8Array(frame)
  if (view.length < 4) return undefined
  return { stream: new DataView(view.buffer, view.byteOffset).getUint32(0), bytes: view.subarray(4) }
}
