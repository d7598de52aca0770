/** The part of the verdict about how much: limits of the cgroup, of files and disk, and the network's policy and rates. Pure. */
import type { DiskIo, Egress } from "../../schema/container.ts"
import { networksOf, spansOf } from "../network/egress.ts"
import type { Expected, Reading } from "./verdict.ts"

/** A quota is kept in whole microseconds of a period of 20 ms at least. */
const CPU_TOLERANCE = 0.0001
/** The kernel's least quota is 1 ms, of a period of 100 ms at most. */
const LEAST_CPUS = 0.01
/** Memory limits are kept in whole pages. */
const PAGE_BYTES = 4096
/** A file system keeps some of its size for its own records: it is never larger than asked, and not much smaller. */
const LEAST_DISK_SHARE = 0.75
/** The weight of a cgroup that was given none. */
const USUAL_WEIGHT = 100

export function limitDeviations(read: Reading, { limits, inOwnCgroup, promise }: Expected): string[] {
  const { cpus, processors, memory_bytes, memory_swap_bytes, pids, disk_bytes, open_files, io } = read.limits
  const asked = Math.max(LEAST_CPUS, limits.cpus)
  const found: string[] = []
  if (!inOwnCgroup) found.push("the process is not in its own cgroup")
  if (cpus === null || Math.abs(cpus - asked) > CPU_TOLERANCE) found.push(`the processor limit is ${cpus ?? "off"}, not ${asked}`)
  const strange = limits.processors === null ? [] : (processors ?? []).filter((each) => !limits.processors?.includes(each))
  if (strange.length > 0) found.push(`the processors ${strange.join(", ")} may be used`)
  if (memory_bytes === null || Math.abs(memory_bytes - limits.memory_bytes) >= PAGE_BYTES) {
    found.push(`the memory limit is ${memory_bytes ?? "off"}, not ${limits.memory_bytes}`)
  } else if (memory_swap_bytes !== null && memory_swap_bytes > memory_bytes) found.push("swap may be used")
  if (pids !== limits.pids) found.push(`the process limit is ${pids ?? "off"}, not ${limits.pids}`)
  const disk = limits.disk_bytes
  if (disk !== null && (disk_bytes === null || disk_bytes > disk || disk_bytes < disk * LEAST_DISK_SHARE)) {
    found.push(`the disk limit is ${disk_bytes ?? "off"}, not ${disk}`)
  }
  // A process may lower its own.
  if (promise.openFiles && (open_files === null || open_files > limits.open_files)) {
    found.push(`the limit of open files is ${open_files ?? "off"}, not ${limits.open_files}`)
  }
  return [...found, ...ioDeviations(io, limits.io)]
}

const IO_NAMES: Readonly<Record<Exclude<keyof DiskIo, "weight">, string>> = {
  read_bytes_per_second: "bytes read a second",
  write_bytes_per_second: "bytes written a second",
  read_operations_per_second: "reads a second",
  write_operations_per_second: "writes a second",
}

function ioDeviations(read: DiskIo, asked: DiskIo): string[] {
  const names = Object.keys(IO_NAMES) as (keyof typeof IO_NAMES)[]
  const found = names
    .filter((name) => read[name] !== asked[name])
    .map((name) => `the limit of ${IO_NAMES[name]} is ${read[name] ?? "off"}, not ${asked[name] ?? "off"}`)
  const weight = read.weight ?? USUAL_WEIGHT
  const share = asked.weight ?? USUAL_WEIGHT
  return weight === share ? found : [...found, `the disk weight is ${weight}, not ${share}`]
}

/** The kernel keeps rates in its own units. */
const RATE_TOLERANCE = 0.01

export function networkDeviations(read: Reading["network"], { network: asked, networkDescribed }: Expected): string[] {
  const allowed = asked.egress === "none" ? ["lo"] : ["lo", "eth0"]
  const found = read.interfaces.filter((name) => !allowed.includes(name)).map((name) => `the interface ${name} is seen`)
  if (!networkDescribed) return found
  if (egressText(read.egress) !== egressText(asked.egress)) {
    found.push(`outbound traffic is ${egressText(read.egress)}, not ${egressText(asked.egress)}`)
  }
  if (asked.egress === "none") return found // no link, so no rate
  for (const way of ["egress", "ingress"] as const) {
    const rate = read[`${way}_bytes_per_second`]
    const limit = asked[`${way}_bytes_per_second`]
    if (limit === undefined ? rate !== null : rate === null || Math.abs(rate - limit) > limit * RATE_TOLERANCE) {
      found.push(`the ${way} rate is ${rate ?? "off"}, not ${limit ?? "off"}`)
    }
  }
  return found
}

/** The kernel holds a list's ranges merged and in order. */
const egressText = (egress: Egress) => (typeof egress === "string" ? egress : spansOf(egress).flatMap(networksOf).join(" "))
