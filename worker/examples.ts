/** Things as the API's description shows them. They are checked against their schemas, as everything in it is. */
import type { z } from "zod"
import type { Cell, Container, Event, NodeView, QuotaUse, Tenant } from "../schema/api.ts"
import type { AuditEntry } from "../schema/audit.ts"
import type { Isolation } from "../schema/isolation.ts"
import type { Token, Trust } from "../schema/tokens.ts"
import type { RegistryCredential } from "../schema/registry-credentials.ts"
import type { Delivery, Webhook } from "../schema/webhooks.ts"

export const CONTAINER_ID = "ctr_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const TENANT_ID = "ten_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const NODE_ID = "nod_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const CELL_ID = "cel_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const TOKEN_ID = "tok_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const JOIN_TOKEN_ID = "jtk_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const RUN_ID = "run_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const EVENT_ID = "evt_01kaz3v8q0f1x8t1m5y7c2d9e4"
const DIGEST = `sha256:${"5f".repeat(32)}`

export const container: z.input<typeof Container> = {
  id: CONTAINER_ID,
  name: "web-1",
  status: "running",
  reason: null,
  since: "2026-11-23T18:30:01.420Z",
  deadline: null,
  actions: ["stop", "restart", "kill", "pause"],
  run: {
    id: RUN_ID,
    state: "running",
    node_region: "eu-1",
    image_digest: DIGEST,
    attempt: 2,
    created_at: "2026-11-23T18:30:01.302Z",
    accelerators: [],
    started_at: "2026-11-23T18:30:01.420Z",
    finished_at: null,
    exit: null,
    timings: { place: 4, assign: 2, prepare: 21, start: 38 },
  },
  history: [
    {
      run_id: "run_01kaz3v8q0f1x8t1m5y7c2d9e3",
      attempt: 1,
      state: "failed",
      node_region: "eu-1",
      reason: { code: "oom_killed", message: "The process was killed because it used more than its 256 MiB of memory." },
      ended_at: "2026-11-23T18:30:01.200Z",
    },
  ],
  restarts: 1,
  warnings: [],
  created_at: "2026-11-23T18:25:12.040Z",
  image: "registry.example/team/app:1.4",
  registry_credential: null,
  command: null,
  args: ["serve", "--port", "8080"],
  env: { LOG_LEVEL: "info" },
  workdir: null,
  user: null,
  labels: { app: "web" },
  resources: {
    cpus: 0.5,
    memory_bytes: 268_435_456,
    pids: 128,
    disk_bytes: 1_073_741_824,
    open_files: 16_384,
    log_bytes_per_second: 1_048_576,
    io: {},
    accelerators: [],
  },
  restart: { policy: "on-failure", max_retries: 5 },
  stop: { timeout_seconds: 10 },
  profile: "hardened",
  read_only: true,
  tty: false,
  network: { egress: "open", egress_bytes_per_second: 12_500_000 },
  capabilities: ["CAP_SETUID", "CAP_SETGID"],
  seccomp: { deny: [] },
  placement: { labels: { region: "eu-1" }, anti_affinity: [] },
  on_partition: "stop",
  drain: "stop_first",
  max_lifetime_seconds: null,
  remove_on_exit: false,
  identity: false,
}

export const event: z.input<typeof Event> = {
  id: EVENT_ID,
  type: "container.running",
  time: "2026-11-23T18:30:01.420Z",
  container_id: CONTAINER_ID,
  container_name: "web-1",
  run_id: RUN_ID,
  data: { image_digest: DIGEST, attempt: 1 },
  cursor: "0000000000001207",
}

export const WEBHOOK_ID = "whk_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const webhook: z.input<typeof Webhook> = {
  id: WEBHOOK_ID,
  url: "https://hooks.example.com/berth",
  types: ["container.exited", "container.lost"],
  labels: { app: "web" },
  description: "",
  enabled: true,
  disabled_reason: null,
  public_key: "whpk_MCowBQYDK2VwAyEAZ1QZ0e1v9Qe4a1mZb0l0qg==",
  failing_since: null,
  last_success_at: "2026-11-23T18:30:01.460Z",
  created_at: "2026-11-23T18:29:30.000Z",
}

export const delivery: z.input<typeof Delivery> = {
  event_id: EVENT_ID,
  type: "container.exited",
  state: "delivered",
  next_attempt_at: null,
  attempts: [{ at: "2026-11-23T18:30:01.425Z", status_code: 204, error: null, latency_ms: 35, answer: "" }],
  cursor: "0000000000001207",
}

export const auditEntry: z.input<typeof AuditEntry> = {
  seq: 1,
  time: "2026-11-23T18:30:01.302Z",
  subject: "ci",
  token_id: TOKEN_ID,
  request_id: "req_01kaz3v8q0f1x8t1m5y7c2d9e4",
  operation: "createContainer",
  target: CONTAINER_ID,
  result: "ok",
  previous: "0".repeat(64),
  hash: "5f".repeat(32),
}

export const REGISTRY_CREDENTIAL_ID = "rgc_01kaz3v8q0f1x8t1m5y7c2d9e4"
export const registryCredential: z.input<typeof RegistryCredential> = {
  id: REGISTRY_CREDENTIAL_ID,
  registry: "registry.example",
  username: "ci",
  created_at: "2026-11-23T18:29:20.000Z",
  last_used_at: null,
}

const QUOTA = {
  containers: 1000,
  cpus: 1000,
  memory_bytes: 1_099_511_627_776,
  disk_bytes: 109_951_162_777_600,
  accelerators: { "nvidia.com/gpu": 8, "*": 0 },
  creates_per_minute: 60_000,
  events: 5_000_000,
}
export const quotaUse: z.input<typeof QuotaUse> = {
  quota: QUOTA,
  used: {
    containers: 3,
    cpus: 1.5,
    memory_bytes: 805_306_368,
    disk_bytes: 3_221_225_472,
    accelerators: { "nvidia.com/gpu": 1 },
    creates_in_last_minute: 2,
    events: 1207,
  },
}

export const tenant: z.input<typeof Tenant> = {
  id: TENANT_ID,
  name: "acme",
  quota: QUOTA,
  policy: { capabilities: "default", on_deviation: "stop", vulnerable_nodes: "allow" },
  created_at: "2026-11-23T18:29:00.000Z",
}

export const cell: z.input<typeof Cell> = {
  id: CELL_ID,
  name: "eu-1-b",
  weights: { spread: 1, bin_pack: 0, balance: 0.5, image: 2, failures: 1 },
  room: {
    nodes: 12,
    ready_nodes: 11,
    runs: 730,
    cpus: 330,
    free_cpus: 81.5,
    memory_bytes: 1_417_339_207_680,
    free_memory_bytes: 403_726_925_824,
  },
  created_at: "2026-11-23T18:00:00.000Z",
}

export const node: z.input<typeof NodeView> = {
  id: NODE_ID,
  cell_id: CELL_ID,
  hostname: "host-7",
  connected: true,
  accepting: true,
  reason: null,
  conditions: [],
  cordoned: false,
  drain: null,
  exclusive_to: null,
  enrolled_at: "2026-11-23T18:00:00.000Z",
  last_seen_at: "2026-11-23T18:30:00.000Z",
  facts: {
    hostname: "host-7",
    boot_id: "9d0f0a52-5d3e-4f5e-8c43-1c2a7d0f6c11",
    architecture: "amd64",
    capacity: { cpus: 30, memory_bytes: 128_849_018_880, pids: 400_000, runs: 1000, disk_bytes: 1_000_000_000_000 },
    labels: { region: "eu-1" },
    profiles: [{ name: "hardened", runtime: "crun", features: ["network", "bandwidth", "seccomp", "pause", "disk_quota"] }],
    devices: [{ name: "nvidia.com/gpu=0", healthy: true, reason: null, parent: null }],
    max_open_files: 1_048_576,
    versions: { kernel: "6.12.40", crun: "1.4.3", conmon: "2.1.13" },
  },
  vulnerabilities: [
    {
      component: "crun",
      version: "1.4.3",
      id: "CVE-2022-27650",
      fixed_in: "1.4.4",
      summary: "Processes begin with inheritable capabilities that they should not have.",
    },
  ],
  reserved: {
    runs: 1,
    cpus: 0.5,
    memory_bytes: 268_435_456,
    pids: 128,
    disk_bytes: 1_073_741_824,
    devices: ["nvidia.com/gpu=0"],
  },
}

export const TRUST_ID = "tru_01kaz3v8q0f1x8t1m5y7c2d9e4"

export const trust: z.input<typeof Trust> = {
  id: TRUST_ID,
  name: "deploy",
  issuer: "https://token.actions.githubusercontent.com",
  audience: "https://berth.example",
  conditions: [
    { claim: "repository", equals: ["acme/app"] },
    { claim: "ref", equals: ["refs/heads/main"] },
  ],
  scopes: ["containers:read", "containers:create"],
  authorization_details: [{ type: "container", name_prefix: "web-" }],
  max_lifetime_seconds: 900,
  created_at: "2026-11-23T18:30:00.000Z",
}

export const token: z.input<typeof Token> = {
  id: TOKEN_ID,
  name: "deploy-web",
  status: "active",
  scopes: ["containers:read", "containers:create"],
  authorization_details: [{ type: "container", name_prefix: "web-", images: ["registry.example/team/app"] }],
  parent: "tok_01kaz3v8q0f1x8t1m5y7c2d9e3",
  created_at: "2026-11-23T18:30:00.000Z",
  expires_at: "2026-11-24T18:30:00.000Z",
  last_used_at: "2026-11-23T19:02:11.000Z",
  revoked_at: null,
}

const CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"]

export const isolation: z.input<typeof Isolation> = {
  run_id: RUN_ID,
  read_at: "2026-11-23T18:31:00.000Z",
  profile: "hardened",
  runtime: { name: "crun", version: "1.24" },
  versions: { kernel: "6.12.40", crun: "1.24", conmon: "2.1.13" },
  namespaces: {
    user: { inode: 4_026_532_201, shared_with: "tenant" },
    pid: { inode: 4_026_532_310, shared_with: "nobody" },
    net: { inode: 4_026_532_312, shared_with: "nobody" },
    mnt: { inode: 4_026_532_309, shared_with: "nobody" },
  },
  user: {
    uid_map: [{ inside: 0, outside: 1_000_000, count: 65_536 }],
    gid_map: [{ inside: 0, outside: 1_000_000, count: 65_536 }],
    runs_as_uid_inside: 0,
    root_is_host_root: false,
  },
  capabilities: { effective: CAPABILITIES, permitted: CAPABILITIES, inheritable: [], bounding: CAPABILITIES, ambient: [] },
  no_new_privileges: true,
  seccomp: { mode: "filter", filters: 1, sha256: null },
  mounts: [{ target: "/", type: "overlay", options: ["ro", "nosuid", "nodev"] }],
  masked_paths: ["/proc/kcore"],
  read_only_paths: ["/proc/sys"],
  limits: {
    cpus: 0.5,
    memory_bytes: 268_435_456,
    memory_swap_bytes: 0,
    pids: 128,
    processors: [3],
    disk_bytes: 1_073_741_824,
    open_files: 16_384,
    io: {},
    cgroup_version: "2",
  },
  devices: [{ path: "/dev/null", type: "c", major: 1, minor: 3, access: "rwm" }],
  network: {
    mode: "nat",
    interfaces: ["lo", "eth0"],
    egress: "open",
    egress_bytes_per_second: 12_500_000,
    ingress_bytes_per_second: null,
    rules: ["ip saddr 100.72.0.9 accept"],
  },
  deviations: [],
  verdict: "holds",
}
