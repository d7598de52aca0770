/** What this host says of itself at hello. */
import { readFile } from "node:fs/promises"
import { arch, availableParallelism, release, totalmem } from "node:os"
import type { Capacity, NodeFacts } from "../../schema/node.ts"
import type { Controller } from "../runtime/controller.ts"
import { EXIT, Fault } from "./fault.ts"

const MIB = 1024 * 1024
/** What the kernel, the bridge and conmon keep for themselves: seen to suffice at a thousand containers. */
const RESERVED_MEMORY_BYTES = 256 * MIB
const RESERVED_MEMORY_SHARE = 0.05
const RESERVED_PIDS = 2048
/** A container costs about 1.4 MiB and three processes before it does anything; beyond so many nobody has measured. */
const MAX_RUNS = 2000

export async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim()
}

/** `diskBytes`: what may be promised of the state's file system. */
export async function hostCapacity(diskBytes: number, overrides: Partial<Capacity>): Promise<Capacity> {
  const pidMax = Number((await readFile("/proc/sys/kernel/pid_max", "utf8")).trim())
  return {
    ...capacityOf({ cpus: availableParallelism(), memoryBytes: totalmem(), pidMax, diskBytes }),
    ...Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined)),
  }
}

/** Pure: what is left for runs of a host of this size. Processors are not over-committed. */
export function capacityOf(host: { cpus: number; memoryBytes: number; pidMax: number; diskBytes: number }): Capacity {
  const memory = Math.floor(host.memoryBytes * (1 - RESERVED_MEMORY_SHARE)) - RESERVED_MEMORY_BYTES
  return {
    cpus: host.cpus,
    memory_bytes: Math.max(memory, MIB),
    pids: Math.max(host.pidMax - RESERVED_PIDS, 1),
    runs: MAX_RUNS,
    disk_bytes: host.diskBytes,
  }
}

export interface FactsOptions {
  readonly hostname: string
  readonly labels: Record<string, string>
  readonly capacity: Capacity
  readonly bootId: string
  readonly controller: Controller
}

export function nodeFacts(options: FactsOptions): NodeFacts {
  const { controller, hostname, labels, capacity } = options
  const versions = { kernel: release(), node: process.versions.node, ...controller.versions }
  return {
    hostname,
    boot_id: options.bootId,
    architecture: architecture(),
    capacity,
    labels,
    profiles: [...controller.profiles],
    devices: [...controller.devices],
    max_open_files: controller.maxOpenFiles,
    versions: Object.fromEntries(Object.entries(versions).map(([name, version]) => [name, version.slice(0, 256)])),
  }
}

function architecture(): NodeFacts["architecture"] {
  switch (arch()) {
    case "x64":
      return "amd64"
    case "arm64":
      return "arm64"
    default:
      throw new Fault(EXIT.host, `This host is ${arch()}; a node must be amd64 or arm64.`)
  }
}
