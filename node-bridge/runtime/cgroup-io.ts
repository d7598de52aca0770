/**
 * The disk limits of a cgroup as the kernel prints them: a line for each device, `MAJOR:MINOR` first. Pure. Of several devices
 * the lowest figure counts. v1: Documentation/admin-guide/cgroup-v1/blkio-controller.rst; v2: `io.max` in cgroup-v2.rst.
 */
import type { DiskIo } from "../../schema/container.ts"

type Limit = Exclude<keyof DiskIo, "weight">

const V1_FILES: Readonly<Record<Limit, string>> = {
  read_bytes_per_second: "blkio.throttle.read_bps_device",
  write_bytes_per_second: "blkio.throttle.write_bps_device",
  read_operations_per_second: "blkio.throttle.read_iops_device",
  write_operations_per_second: "blkio.throttle.write_iops_device",
}
const V2_KEYS: Readonly<Record<Limit, string>> = {
  read_bytes_per_second: "rbps",
  write_bytes_per_second: "wbps",
  read_operations_per_second: "riops",
  write_operations_per_second: "wiops",
}
const LIMITS = Object.keys(V1_FILES) as Limit[]
/** Given to every cgroup that asks for nothing. */
const USUAL_WEIGHT = 100

type Write = readonly [file: string, text: string]

/** Pure: what to write into which file so that each of these disks (`MAJOR:MINOR`) has the limits, and the run its weight. */
export function diskIoWrites(version: 1 | 2, io: DiskIo, disks: readonly string[]): Write[] {
  const asked = LIMITS.flatMap((limit) => (io[limit] === undefined ? [] : [{ limit, value: io[limit] }]))
  const limits = disks.flatMap((disk): Write[] => {
    if (version === 1) return asked.map(({ limit, value }) => [V1_FILES[limit], `${disk} ${value}`])
    const words = asked.map(({ limit, value }) => `${V2_KEYS[limit]}=${value}`)
    return words.length === 0 ? [] : [["io.max", [disk, ...words].join(" ")]]
  })
  const weight: Write[] =
    io.weight === undefined ? [] : [[version === 2 ? "io.bfq.weight" : "blkio.bfq.weight", String(io.weight)]]
  return [...limits, ...weight]
}

/** `read` gives a file of the run's cgroup, null when it is not there. */
export function readDiskIo(version: 1 | 2, read: (file: string) => string | null): DiskIo {
  const max = version === 2 ? (read("io.max") ?? "") : ""
  const found = LIMITS.map((limit) => [
    limit,
    version === 2
      ? lowest(max, new RegExp(`^\\d+:\\d+ .*\\b${V2_KEYS[limit]}=(\\d+)`, "gm"))
      : lowest(read(V1_FILES[limit]) ?? "", /^\d+:\d+ (\d+)/gm),
  ])
  const weight =
    version === 2
      ? (number(read("io.bfq.weight")) ?? number(read("io.weight")))
      : (number(read("blkio.bfq.weight")) ?? number(read("blkio.weight")))
  return {
    ...(Object.fromEntries(found.filter(([, value]) => value !== null)) as DiskIo),
    ...(weight === null || weight === USUAL_WEIGHT ? {} : { weight }),
  }
}

function lowest(text: string, lines: RegExp): number | null {
  const values = [...text.matchAll(lines)].map(([, value]) => Number(value))
  return values.length === 0 ? null : Math.min(...values)
}

/** `100`, or `default 100` with a line for each device below. */
function number(text: string | null): number | null {
  const value = /^(?:default )?(\d+)/.exec(text ?? "")?.[1]
  return value === undefined ? null : Number(value)
}
