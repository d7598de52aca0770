/** What a run is given with its devices, with the host's own numbers in it: made when the run is prepared, and kept with it. */
import { readNode, readSource } from "./host-nodes.ts"
import type { DevicePlan, PlannedHook } from "./plan.ts"

export interface GrantedNode {
  /** In the container. */
  readonly path: string
  readonly type: "b" | "c"
  readonly major: number
  readonly minor: number
  /** Some of `r` and `w`. */
  readonly access: string
  readonly mode: number
  /** Ids inside the container; null: its user's. */
  readonly uid: number | null
  readonly gid: number | null
}

export interface GrantedMount {
  /** On the host, with no link left to follow. */
  readonly source: string
  readonly isDirectory: boolean
  /** In the container, as the description has it. */
  readonly path: string
  readonly writable: boolean
  readonly executable: boolean
}

export interface Grant {
  readonly env: readonly string[]
  readonly nodes: readonly GrantedNode[]
  readonly mounts: readonly GrantedMount[]
  readonly additionalGids: readonly number[]
  readonly hooks: readonly PlannedHook[]
}

/** Throws a sentence when something that the plan names is not there. */
export async function grantOf({ env, nodes, mounts, additionalGids, hooks }: DevicePlan): Promise<Grant> {
  return {
    env,
    additionalGids,
    hooks,
    nodes: await Promise.all(
      nodes.map(async (node) => {
        const { type, major, minor, mode } = await readNode(node)
        const { path, access, uid, gid } = node
        return { path, type, major, minor, access, mode: node.mode ?? mode, uid, gid }
      }),
    ),
    mounts: await Promise.all(
      mounts.map(async (mount) => {
        const { path: source, isDirectory } = await readSource(mount)
        return { source, isDirectory, path: mount.path, writable: mount.writable, executable: mount.executable }
      }),
    ),
  }
}
