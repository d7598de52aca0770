/**
 * Which namespaces the live runs of this host are in, so that a reading can say with whom one is shared. Told of a run
 * whenever it is looked at; a match is looked up again in the kernel before it counts, for the kernel uses numbers again.
 */
import { readlinkSync } from "node:fs"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { NAMESPACES } from "../oci/hardened.ts"
import { isAlive } from "../runtime/process-identity.ts"
import type { ProcessIdentity } from "../runtime/process-identity.ts"

export type NamespaceName = (typeof NAMESPACES)[number]
export type Inodes = Readonly<Record<NamespaceName, number>>

/** Names of /proc/PID/ns where they differ from those of the runtime specification. */
const FILES: Readonly<Record<NamespaceName, string>> = {
  pid: "pid", network: "net", ipc: "ipc", uts: "uts", mount: "mnt", cgroup: "cgroup", user: "user",
} // prettier-ignore

/** The link reads `net:[4026531840]`. Throws when the process is gone. */
export function namespaceOf(pid: number | "self", name: NamespaceName): number {
  return Number(/\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/ns/${FILES[name]}`))?.[1])
}

export const namespacesOf = (pid: number | "self"): Inodes =>
  Object.fromEntries(NAMESPACES.map((name) => [name, namespaceOf(pid, name)])) as Record<NamespaceName, number>

interface Member {
  readonly runId: RunId
  readonly tenantId: TenantId
  readonly init: ProcessIdentity
}

export class NamespaceCensus {
  /** The bridge's thread comes home from every excursion before anything else can run: these stay as they are. */
  readonly host: Inodes = namespacesOf("self")
  readonly #byNamespace = new Map<string, Map<RunId, Member>>()
  readonly #keys = new Map<RunId, readonly string[]>()

  saw(member: Member, inodes: Inodes): void {
    this.forget(member.runId)
    const keys = NAMESPACES.map((name) => keyOf(name, inodes[name]))
    this.#keys.set(member.runId, keys)
    for (const key of keys) {
      const members = this.#byNamespace.get(key) ?? new Map<RunId, Member>()
      this.#byNamespace.set(key, members.set(member.runId, member))
    }
  }

  forget(runId: RunId): void {
    for (const key of this.#keys.get(runId) ?? []) {
      const members = this.#byNamespace.get(key)
      members?.delete(runId)
      if (members?.size === 0) this.#byNamespace.delete(key)
    }
    this.#keys.delete(runId)
  }

  /** Whether live runs of the same tenant, and of any other, are in this namespace of a run's. */
  sharers(run: Member, name: NamespaceName, inode: number): { readonly tenant: boolean; readonly others: boolean } {
    const found = { tenant: false, others: false }
    for (const member of this.#byNamespace.get(keyOf(name, inode))?.values() ?? []) {
      const kind = member.tenantId === run.tenantId ? "tenant" : "others"
      if (member.runId === run.runId || found[kind] || !isIn(member, name, inode)) continue
      found[kind] = true
    }
    return found
  }
}

const keyOf = (name: NamespaceName, inode: number) => `${name} ${inode}`

function isIn({ init }: Member, name: NamespaceName, inode: number): boolean {
  try {
    return isAlive(init) && namespaceOf(init.pid, name) === inode
  } catch {
    return false // it ended while we looked
  }
}
