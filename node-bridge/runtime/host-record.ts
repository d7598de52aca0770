/**
 * What the host remembers of a run, in the run's own directory: enough for another bridge to take it over after a crash.
 * The record is a line for each thing that is learnt, and the last whole one is true: adding one costs a third of a new file
 * renamed into place. A reboot may lose the last writes: a record without a line is a run of which only leftovers exist,
 * which `remove` clears. A full disk may cut a line short: each begins with an end of line, so that the next one is whole.
 */
import { appendFileSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs"
import { z } from "zod"
import { Capability, DeviceName, Network, Profile, Resources, SignalName } from "../../schema/container.ts"
import { RunId, TenantId } from "../../schema/ids.ts"
import { Exit, Reason } from "../../schema/protocol.ts"
import type { Outcome } from "./controller.ts"
import { RUNTIME_NAMES } from "./runtimes.ts"

/** In a run's own directory. */
export const RECORD_FILE = "run.jsonl"
/** Some twenty lines; a tenant may change a live network without end, and every look reads all. */
const MAX_RECORD_BYTES = 32 * 1024

const Identity = z.object({ pid: z.int(), startTicks: z.number() })

export const HostRecord = z.object({
  run_id: RunId,
  tenant_id: TenantId,
  profile: Profile,
  runtime: z.enum(RUNTIME_NAMES),
  image_digest: z.string(),
  boot_id: z.string(),
  stop_signal: SignalName.nullable(),
  network: Network,
  /** By which the tenant's other containers on this host find it. */
  names: z.array(z.string()),
  address: z.string().nullable(),
  host_base: z.int(),
  read_only: z.boolean(),
  /** What was asked for, `pids` as its node counts them: the isolation read-out holds the kernel's figures against these. */
  limits: Resources.pick({
    cpus: true,
    memory_bytes: true,
    pids: true,
    open_files: true,
    log_bytes_per_second: true,
    io: true,
  }).strip(),
  capabilities: z.array(Capability),
  /** Of the filter that was compiled for it, in hex; null where the runtime brings or compiles its own. */
  filter_sha256: z.string().nullable(),
  /** CDI names of what is its own alone. */
  devices: z.array(DeviceName),
  /** In the container: device nodes that were granted, by path with type and number as in `c 10:232`; mounts that came along. */
  device_nodes: z.record(z.string(), z.string()),
  device_mounts: z.array(z.string()),
  /** It has a socket for its identity, at which every bridge must listen. */
  identity: z.boolean().default(false),
  /** The size of the run's own disk; null where its root is on the host's. */
  disk_bytes: z.int().nullable(),
  /** Those that it may use, as in `0-3,8`; null for all. */
  processors: z.string().nullable().default(null),
  uid: z.int(),
  /** Set once the container was created; its process then waits for the runtime's `start`. */
  init: Identity.nullable(),
  /** Has the run's disk as its root where the first process, being a kernel of its own, has not. */
  file_server: Identity.nullable().default(null),
  monitor: Identity.nullable(),
  /** Set once its process was let go. */
  started_at_ms: z.int().nullable(),
})
export type HostRecord = z.infer<typeof HostRecord>

const StoredOutcome = z.object({ exit: Exit.omit({ by: true }), finished_at_ms: z.int(), host_fault: Reason.nullable() })

export function writeRecord(file: string, record: HostRecord): void {
  const line = `\n${JSON.stringify(record)}\n`
  const bytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  if (bytes > MAX_RECORD_BYTES) replaceFile(file, line)
  else appendFileSync(file, line, { mode: 0o600 })
}

export function readRecord(file: string): HostRecord | null {
  const lines = readText(file)?.split("\n").slice(0, -1) ?? []
  for (const line of lines.toReversed()) {
    const record = parse(line, HostRecord)
    if (record !== null) return record
  }
  return null
}

export function writeOutcome(file: string, outcome: Outcome): void {
  replaceFile(file, JSON.stringify(outcome))
}

export function readOutcome(file: string): Outcome | null {
  const text = readText(file)
  return text === null ? null : parse(text, StoredOutcome)
}

function replaceFile(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 })
  renameSync(`${file}.new`, file)
}

function readText(file: string): string | null {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return null
  }
}

function parse<T>(text: string, schema: z.ZodType<T>): T | null {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
