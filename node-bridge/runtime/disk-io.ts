/**
 * Which disks a run's I/O ends at, and what this host can do about it. The block controller counts by whole disk: a partition
 * is named by the disk that it is on, and a file system with no disk of its own (btrfs, a network's) cannot be limited.
 */
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs"
import { dirname, join } from "node:path"
import type { Feature } from "../../schema/features.ts"
import { deviceNumber } from "../isolation/proc-text.ts"
import type { CgroupLayout } from "./cgroup-layout.ts"

/** `MAJOR:MINOR` of the disk under a path; null when there is none to name. */
export function diskUnder(path: string): string | null {
  const { major, minor } = deviceNumber(statSync(path).dev)
  const block = blockOf(`${major}:${minor}`)
  return block === null ? null : readFileSync(join(block, "dev"), "latin1").trim()
}

export const disksUnder = (paths: readonly string[]): string[] =>
  [...new Set(paths.map(diskUnder))].filter((disk) => disk !== null)

/** The disk's directory in sysfs, where a partition's is inside its disk's. */
function blockOf(device: string): string | null {
  try {
    const found = realpathSync(`/sys/dev/block/${device}`)
    return existsSync(join(found, "partition")) ? dirname(found) : found
  } catch {
    return null
  }
}

/**
 * v1 limits what is read or written directly or synced, for it does not know whose page is written back later; v2 does. Only
 * the bfq scheduler weighs, whichever the version.
 */
export function diskIoFeatures({ version, mounts }: CgroupLayout, stateDir: string): Feature[] {
  const mount = mounts.get(version === 2 ? "unified" : "blkio")
  const disk = diskUnder(stateDir)
  if (mount === undefined || disk === null) return []
  const limits =
    version === 2
      ? readFileSync(join(mount, "cgroup.controllers"), "latin1").split(/\s+/).includes("io")
      : existsSync(join(mount, "blkio.throttle.read_bps_device"))
  if (!limits) return []
  const weighs = schedulerOf(disk) === "bfq"
  return ["io_limits", ...(version === 2 ? ["buffered_io_limits" as const] : []), ...(weighs ? ["io_weight" as const] : [])]
}

/** The kernel lists all that it has, the one in force in brackets. */
function schedulerOf(disk: string): string | undefined {
  try {
    return /\[(\S+)\]/.exec(readFileSync(`/sys/dev/block/${disk}/queue/scheduler`, "latin1"))?.[1]
  } catch {
    return undefined
  }
}
