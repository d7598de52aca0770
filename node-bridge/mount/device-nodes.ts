/**
 * Device nodes of a run's own, made on a small tmpfs in the mount namespace in which the container is created, and gone with
 * the container: on the host there is never a name by which anybody else could open them, and a crash leaves none behind. A
 * node of the host's cannot be used in their place: it is root's, and stays so inside a tenant's user namespace.
 */
import { chmodSync, chownSync } from "node:fs"
import type { GrantedNode } from "../device/grant.ts"
import { makeNode } from "../native/files.ts"
import { MOUNT, mount } from "../native/libc.ts"
import { nodeSource } from "../oci/devices.ts"

export interface DeviceNodes {
  /** An empty directory, the mount point. */
  readonly directory: string
  readonly nodes: readonly GrantedNode[]
  /** Host ids of the container's root, and of its user. */
  readonly hostBase: number
  readonly uid: number
  readonly gid: number
}

/** Call in the create step's namespace. Throws `SystemCallError`. */
export function makeDeviceNodes({ directory, nodes, hostBase, uid, gid }: DeviceNodes): void {
  mount("tmpfs", directory, "tmpfs", MOUNT.NOSUID | MOUNT.NOEXEC, "size=64k,mode=755")
  for (const [index, node] of nodes.entries()) {
    const path = nodeSource(directory, index)
    makeNode(path, node.type, node.major, node.minor)
    chownSync(path, hostBase + (node.uid ?? uid), hostBase + (node.gid ?? gid))
    chmodSync(path, node.mode)
  }
}
