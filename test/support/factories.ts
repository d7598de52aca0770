/** Things that are valid by default; a test changes only what it is about. */
import { ContainerCreate } from "../../schema/container.ts"
import { FEATURES } from "../../schema/features.ts"
import { formatId, ID_RANDOM_BYTES, type IdOf, type IdPrefix } from "../../schema/ids.ts"
import type { NodeFacts } from "../../schema/node.ts"
import type { Observation } from "../../schema/protocol.ts"
import type { RunId } from "../../schema/ids.ts"
import type { z } from "zod"

export const GIB = 1024 ** 3

export const anId = <P extends IdPrefix>(prefix: P): IdOf<P> =>
  formatId(prefix, Date.now(), crypto.getRandomValues(new Uint8Array(ID_RANDOM_BYTES)))

export const aCreate = (changes: Partial<z.input<typeof ContainerCreate>> = {}): ContainerCreate =>
  ContainerCreate.parse({ image: "registry.example/app:1", ...changes })

export const someFacts = (changes: Partial<NodeFacts> = {}): NodeFacts => ({
  hostname: "host-1",
  boot_id: "boot-1",
  architecture: "amd64",
  capacity: { cpus: 8, memory_bytes: 16 * GIB, pids: 100_000, runs: 200, disk_bytes: 100 * GIB },
  labels: { region: "eu-1" },
  profiles: [{ name: "hardened", runtime: "crun", features: [...FEATURES] }],
  devices: [],
  max_open_files: 1_048_576,
  versions: { crun: "1.20" },
  ...changes,
})

export const anObservation = (run_id: RunId, changes: Partial<Observation> = {}): Observation => ({
  run_id,
  state: "running",
  revision: 1,
  paused: false,
  at_ms: Date.now(),
  reason: null,
  exit: null,
  image_digest: `sha256:${"a".repeat(64)}`,
  started_at_ms: null,
  finished_at_ms: null,
  timings: {},
  ...changes,
})

export const anExit = (changes: Partial<NonNullable<Observation["exit"]>> = {}): NonNullable<Observation["exit"]> => ({
  code: 0,
  signal: null,
  oom_killed: false,
  by: "process",
  log_tail: [],
  ...changes,
})
