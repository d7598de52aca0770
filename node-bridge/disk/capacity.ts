/**
 * What a node may promise of its disk, and when it must promise no more. Disks are sparse: a promise takes no space until it
 * is used, so promises are counted against the size of the disk, and the space that is really free is watched beside them.
 * Pure.
 */
import { GIB, MIB } from "../../schema/container.ts"
import type { NodeCondition } from "../../schema/node.ts"

export interface Space {
  readonly totalBytes: number
  /** What anybody but root may still take. */
  readonly freeBytes: number
}

/** Of what is free: images, logs and the journal grow there too. */
const RESERVED_SHARE = 0.1

/**
 * Bytes that runs may be promised. What live runs have written is theirs already: a bridge that starts among them must offer
 * as much as one that starts alone. `overcommit` above 1 bets that not all fill their disks.
 */
export function promisable(space: Pick<Space, "freeBytes">, liveBytes: number, overcommit: number): number {
  const free = space.freeBytes + liveBytes
  return Math.max(Math.floor(free * (1 - RESERVED_SHARE) * overcommit), MIB)
}

/** Under the floor nothing new is taken: what runs here may still fill what it was promised, and images must be able to come. */
const FLOOR_SHARE = 0.05
const MOST_FLOOR_BYTES = 2 * GIB
/** The condition ends only well above the floor, or it would come and go with every log line. */
const RECOVERED = 1.25

/** `pressed` is what the last look found. Null: there is enough. */
export function diskPressure({ totalBytes, freeBytes }: Space, pressed: boolean): NodeCondition | null {
  const floor = Math.min(totalBytes * FLOOR_SHARE, MOST_FLOOR_BYTES) * (pressed ? RECOVERED : 1)
  if (freeBytes >= floor) return null
  const left = Math.floor(freeBytes / MIB)
  return { kind: "disk_pressure", message: `The node's disk has only ${left} MiB left.` }
}
