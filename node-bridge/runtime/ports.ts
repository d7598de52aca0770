/**
 * What the OCI controller needs of the rest of the host: images, uid ranges, user namespaces, root mounts, networks.
 * Interfaces only: each is implemented in its own folder and composed in `oci-controller.ts`.
 *
 * Everything that is only a descriptor is named by a path of the form `/proc/PID/fd/N`, PID being this process: the kernel
 * follows it for any process of root's, and nothing is left on the host when this process dies.
 */
import type { RunId, TenantId } from "../../schema/ids.ts"
import type { Network as NetworkLimits } from "../../schema/container.ts"
import type { Isolation } from "../../schema/isolation.ts"
import type { Assignment } from "../../schema/protocol.ts"
import type { ProcessIdentity } from "./process-identity.ts"

/** What an image says about how to run it: the `config` object of the OCI image specification, absent fields made empty. */
export interface ImageConfig {
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  /** `NAME=value`, in the image's order. */
  readonly env: readonly string[]
  /** As written in the image; empty when it names none. */
  readonly workdir: string
  /** `user`, `uid`, `user:group`, …; empty when it names none. */
  readonly user: string
  /** As written: `SIGQUIT` or `3`; empty when it names none. */
  readonly stopSignal: string
}

export interface StoredImage {
  /** The digest of the image as its registry names it. */
  readonly digest: string
  /** The unpacked root, owned by host ids as the image has them (0-based), read-only for everybody by convention. */
  readonly rootDir: string
  readonly config: ImageConfig
}

/** For one registry. They are used for the call that they come with and kept nowhere. */
export interface RegistryCredentials {
  /** Without a colon: basic authentication (RFC 7617) ends it there. */
  readonly username: string
  readonly password: string
}

/**
 * What to pull a run's image with, from the platform. Throws `ControllerError`, or the signal's reason when aborted.
 */
export type RegistryLogins = (run: Pick<Assignment, "run_id" | "tenant_id">, signal: AbortSignal) => Promise<RegistryCredentials>

export interface WantedImage {
  readonly reference: string
  /** Wins over the reference's tag; null for what the reference says. */
  readonly digest: string | null
  readonly tenantId: TenantId
  /** The tenant's, for the reference's registry; null for what it gives to this node for everybody. */
  readonly credentials: RegistryCredentials | null
}

export interface ImageStore {
  /**
   * Makes the image present and unpacked, for a tenant to whom the named repository gives it: an image that is here already
   * is given at once when that is known, and otherwise after the registry was asked. Throws `ControllerError`, or the
   * signal's reason when aborted. The image may be collected unless it is retained or in the live set.
   */
  ensure(wanted: WantedImage, signal: AbortSignal): Promise<StoredImage>
  /** Keeps an image for as long as `holder` does; both are idempotent and held in memory: say it again after a restart. */
  retain(digest: string, holder: RunId): void
  release(holder: RunId): void
  /** Deletes images that nobody retains and whose digest is not in `live`. */
  collect(live: ReadonlySet<string>): Promise<void>
}

/** Host ids `hostBase … hostBase + size - 1` stand for 0 … size - 1 in the tenant's containers. */
export interface IdRange {
  readonly hostBase: number
  readonly size: number
}

export interface IdRanges {
  /** The tenant's own range, the same for ever on this host (kept on disk). */
  rangeOf(tenantId: TenantId): Promise<IdRange>
}

/** Something named by a path for as long as it is held. `release` is idempotent. */
export interface HeldPath {
  readonly path: string
  release(): void
}

export interface UserNamespaces {
  /** The tenant's user namespace, created by the tenant's own uid and pinned while this process lives. */
  of(tenantId: TenantId): Promise<{ readonly path: string }>
  /**
   * After a restart: takes over the namespaces that live containers are in, so that a tenant's counters stay one. Called once,
   * before the first `of`. A process that died in the meantime, or is in another namespace than its tenant's, is passed over.
   */
  adopt(live: readonly { readonly tenantId: TenantId; readonly init: ProcessIdentity }[]): Promise<void>
}

export interface RootMounts {
  /**
   * A detached idmapped mount of `rootDir`, usable as an overlay's lowerdir by another process. One for every pair of root
   * and range is shared; it may go once the overlay is mounted.
   */
  idmapped(rootDir: string, range: IdRange): Promise<HeldPath>
}

/** What a run may write to: a file system of its own, or a part of one, that ends where its quota does. */
export interface Disks {
  /** What holds the quota. */
  readonly kind: "image" | "project_quota"
  /**
   * A directory with `upper/` and `work/`, empty, owned by the host id `owner`. It is the caller's while held; a mount made of
   * it keeps it after that. Throws `ControllerError`.
   */
  take(runId: RunId, bytes: number, owner: number): Promise<HeldPath>
  /** Frees what is left of a run's disk once its mounts are gone; idempotent. */
  release(runId: RunId): Promise<void>
  /** After a restart: frees the disks of all runs but these. */
  recover(live: readonly RunId[]): Promise<void>
  /** Makes disks ahead of need. */
  refill(): Promise<void>
  close(): Promise<void>
}

export interface Network {
  readonly netnsPath: string
  /** The container's IPv4 address; null with loopback only. */
  readonly address: string | null
  /** For its resolv.conf: our own, which answers once the container has a network to ask it by. */
  readonly nameservers: readonly string[]
}

/** The host's side of a run's network as the kernel has it now. */
export type NetworkDescription = Pick<
  Isolation["network"],
  "egress" | "egress_bytes_per_second" | "ingress_bytes_per_second" | "rules"
>

export interface NetworkPool {
  /**
   * The run's network; the same again when it was taken before and not released. The tenant's containers on this node find it
   * by `names`. Throws `ControllerError`, also for egress to what the platform closes to everybody.
   */
  take(runId: RunId, tenantId: TenantId, limits: NetworkLimits, names: readonly string[]): Promise<Network>
  /**
   * Changes the limits of a network that was taken, in place, for open connections too. Answers its address, which is another
   * when `none` came or went; null for loopback only, and for a run whose network was not taken or is released: then nothing
   * was done. What the platform closes to everybody stays closed: a change is never refused while something wider is in force.
   */
  setLimits(runId: RunId, limits: NetworkLimits): Promise<string | null>
  /** What the kernel has of a run's network on the host's side; null when it was not taken. */
  describe(runId: RunId): Promise<NetworkDescription | null>
  /** Closes the run's network; idempotent. */
  release(runId: RunId): Promise<void>
  /**
   * After a restart: takes over the networks of runs that still live (from `/proc/<pid>/ns/net`), and closes all others.
   * A run whose process died in the meantime may be named: it is then only released. Called once, with nothing when nothing
   * lives, before the first `take`: until then the rules of the bridge before are in force.
   */
  recover(live: readonly LiveNetwork[]): Promise<void>
  /** Makes namespaces ahead of need, and sees that the rules are still there. */
  refill(): Promise<void>
  close(): Promise<void>
}

export interface LiveNetwork {
  readonly runId: RunId
  readonly tenantId: TenantId
  readonly network: NetworkLimits
  readonly names: readonly string[]
  readonly address: string | null
  readonly pid: number
}
