/**
 * The mount namespace in which one container is created: the host's mounts, with the container's root and the sysfs of its
 * network on top. The monitor is started in it and stays there, the runtime copies from it; it never shows in the host's
 * mount table, and with its last process the kernel takes it down, so a crash leaves nothing to unmount.
 *
 * Made in-process by one synchronous excursion of the calling thread: three programs in the way of every start cost more
 * than the rest of a preparation. The first one gives the thread its own idea of a current directory (the kernel asks for
 * it); since every excursion ends where it began, that never shows.
 *
 * Each is a copy of one that is made once and held: unmounting, and taking a namespace down, wait for a grace period of the
 * kernel, a millisecond each in which nothing else of the bridge goes on.
 */
import { chmodSync, closeSync, constants, openSync } from "node:fs"
import { makeNode } from "../native/files.ts"
import { CLONE_NEWNET, CLONE_NEWNS, fchdir, MOUNT, mount, setns, umount, unshare } from "../native/libc.ts"
import { makeDeviceNodes } from "./device-nodes.ts"
import type { DeviceNodes } from "./device-nodes.ts"

export interface RootLayout {
  /** The image's root, idmapped to the tenant's ids. */
  readonly lower: string
  /** Has `upper/` and `work/`, what the container writes. */
  readonly dir: string
  /** The mount points. */
  readonly root: string
  readonly sys: string
  /** `sys` must show this network's interfaces, not the machine's; null: nothing is mounted there. */
  readonly netns: string | null
  /** Null: it has none but the standard devices. */
  readonly devices: DeviceNodes | null
}

/** The thread's directory may be anything that can be held, a deleted one too. */
const O_PATH = 0o10000000
const SYSFS_FLAGS = MOUNT.RDONLY | MOUNT.NOSUID | MOUNT.NODEV | MOUNT.NOEXEC

export class CreateNamespaces {
  readonly #home = openSync("/proc/thread-self/ns/mnt", "r")
  readonly #homeNetwork = openSync("/proc/thread-self/ns/net", "r")
  /** What the host mounts and unmounts later still comes here, and nothing goes back. */
  readonly #pattern: number

  /** `hidden`: a v2 mount of a hybrid machine, which crun cannot live with while it creates; null for none. */
  constructor(hidden: string | null) {
    this.#pattern = this.#excursion(copy, () => {
      mount("none", "/", null, MOUNT.SLAVE | MOUNT.REC, null)
      if (hidden !== null) umount(hidden)
      replaceNull()
      return openSync("/proc/thread-self/ns/mnt", "r")
    })
  }

  /** Does `work`, which must not yield, inside; what it starts stays there. Throws `SystemCallError`, and what `work` throws. */
  within<T>(layout: RootLayout, work: () => T): T {
    const away = () => setns(this.#pattern, CLONE_NEWNS)
    return this.#excursion(away, () => {
      copy()
      mountRoot(layout)
      this.#mountSys(layout)
      if (layout.devices !== null) makeDeviceNodes(layout.devices)
      return work()
    })
  }

  #excursion<T>(leave: () => void, work: () => T): T {
    const directory = openSync(".", O_PATH | constants.O_DIRECTORY)
    try {
      leave()
      try {
        return work()
      } finally {
        comeHome(() => {
          setns(this.#home, CLONE_NEWNS)
          fchdir(directory)
        })
      }
    } finally {
      closeSync(directory)
    }
  }

  /** A sysfs shows the network namespace of who mounts it. */
  #mountSys({ netns, sys }: RootLayout): void {
    if (netns === null) return
    const network = openSync(netns, "r")
    try {
      setns(network, CLONE_NEWNET)
      try {
        mount("sysfs", sys, "sysfs", SYSFS_FLAGS, null)
      } finally {
        comeHome(() => setns(this.#homeNetwork, CLONE_NEWNET))
      }
    } finally {
      closeSync(network)
    }
  }

  close(): void {
    closeSync(this.#pattern)
    closeSync(this.#home)
    closeSync(this.#homeNetwork)
  }
}

/** The calling thread goes on in a copy of the mount namespace that it is in. */
const copy = () => unshare(CLONE_NEWNS)

/** Any directory that every host has; it is covered for a moment, in the pattern alone. */
const SCRATCH = "/tmp"

/**
 * Runtimes make what they get as standard input the property of whom the container runs as (runsc: the host's `nobody`), who may
 * then close it to all others. That is /dev/null: here it is a node of the pattern's own, and the host's keeps its owner.
 */
function replaceNull(): void {
  mount("tmpfs", SCRATCH, "tmpfs", MOUNT.NOSUID | MOUNT.NOEXEC, "size=64k,mode=755")
  const node = `${SCRATCH}/null`
  makeNode(node, "c", 1, 3)
  chmodSync(node, 0o666)
  mount(node, "/dev/null", null, MOUNT.BIND, null)
  umount(SCRATCH)
}

function mountRoot({ lower, dir, root }: RootLayout): void {
  // Through a descriptor: a comma or colon in the directory's name cannot become a mount option.
  const held = openSync(dir, O_PATH | constants.O_DIRECTORY)
  try {
    const writable = `/proc/self/fd/${held}`
    const options = `lowerdir=${lower},upperdir=${writable}/upper,workdir=${writable}/work`
    mount("overlay", root, "overlay", MOUNT.NOSUID | MOUNT.NODEV, options)
  } finally {
    closeSync(held)
  }
}

/** A thread that cannot come home must not go on: whatever it did next would happen inside a container's namespaces. */
function comeHome(way: () => void): void {
  try {
    way()
  } catch {
    process.abort()
  }
}
