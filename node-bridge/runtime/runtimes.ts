/**
 * The OCI runtimes that Berth knows, and in what they differ, as data: whoever calls one asks this table and no name.
 *
 * runsc is gVisor: it runs the container's processes on a kernel of its own, the sentry, which is a process of the host. The
 * release that Debian 12 has (of December 2022) cannot be given a network namespace together with a user namespace, so the
 * container's network is loopback, and files are opened for the sentry by a second process with the tenant's ids, the gofer.
 */
import type { Profile } from "../../schema/container.ts"

export const RUNTIME_NAMES = ["crun", "runc", "runsc"] as const
export type RuntimeName = (typeof RUNTIME_NAMES)[number]

export interface RuntimeTraits {
  readonly profile: Profile
  /** What stands before the verb in every call, besides where its state is. */
  readonly options: readonly string[]
  /**
   * How it gets a user namespace: the tenant's pinned one by its path, or one of its own with the tenant's ids. runc cannot
   * join a host's network namespace from a user namespace that root does not own, and runsc joins none by path.
   */
  readonly userNamespace: "tenant" | "own"
  /** Whether it takes the network namespace that is made ahead; otherwise it makes one that has loopback alone. */
  readonly takesNetwork: boolean
  /** It runs the container on a kernel of its own: `/proc` and `/sys` come from there. */
  readonly ownKernel: boolean
  /** The system call filter: compiled by us, by the runtime from our list, or the runtime's own around itself. */
  readonly filter: "compiled" | "list" | "own"
  /** conmon hands its own `--no-new-keyring` on to the runtime, which must know it. */
  readonly keyringOption: boolean
  /** It refuses to create while it sees a v2 hierarchy beside those of v1. */
  readonly needsUnifiedHidden: boolean
  /** How it shows that a created container was let go: it deletes a pipe, or writes it in its state. */
  readonly startedSign: "fifo" | "state"
}

export const RUNTIMES: Readonly<Record<RuntimeName, RuntimeTraits>> = {
  crun: {
    profile: "hardened",
    options: ["--cgroup-manager=cgroupfs"],
    userNamespace: "tenant",
    takesNetwork: true,
    ownKernel: false,
    filter: "compiled",
    keyringOption: true,
    needsUnifiedHidden: true,
    startedSign: "fifo",
  },
  runc: {
    profile: "hardened",
    options: [],
    userNamespace: "own",
    takesNetwork: true,
    ownKernel: false,
    filter: "list",
    keyringOption: true,
    needsUnifiedHidden: false,
    startedSign: "fifo",
  },
  runsc: {
    profile: "sandboxed",
    // The platform is left to the release's own choice (ptrace, later systrap): kvm hangs on hosts that are virtual machines.
    // Without its overlay what is written lands in the run's own directory, where it counts.
    options: ["--network=none", "--overlay2=none"],
    userNamespace: "own",
    takesNetwork: false,
    ownKernel: true,
    filter: "own",
    keyringOption: false,
    needsUnifiedHidden: false,
    startedSign: "state",
  },
}
