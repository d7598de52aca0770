/**
 * Writes settings of the network namespace that the calling thread is in, below `/proc/sys/net`, through a procfs of our own.
 *
 * The kernel remembers every namespace's file of one name in one list for as long as the namespace lives, and goes through
 * the whole list for each new one: by way of the host's `/proc` that is a millisecond and a half of a start beside 600
 * containers. A procfs that is taken down now and then has forgotten them. It is a descriptor and in no table of mounts.
 */
import { close, closeSync, writeFileSync } from "node:fs"
import { mountKernelFiles } from "../native/file-systems.ts"

/** Those of some sixty namespaces: far below what is noticed, and a new procfs (0.1 ms) is rare. */
const RENEW_AFTER_WRITES = 400

export class NetworkSettings {
  #procfs: number | null = null
  #writes = 0

  /** `name` as in `ipv4/ip_forward`. Throws what the file system says. */
  write(name: string, value: string): void {
    try {
      writeFileSync(`/proc/self/fd/${this.#current()}/sys/net/${name}`, value)
    } catch (error) {
      // A kernel without IPv6 has nothing to switch off.
      if (name.startsWith("ipv6/") && error instanceof Error && "code" in error && error.code === "ENOENT") return
      throw error
    }
  }

  close(): void {
    if (this.#procfs !== null) closeSync(this.#procfs)
    this.#procfs = null
  }

  #current(): number {
    this.#writes += 1
    if (this.#procfs !== null && this.#writes <= RENEW_AFTER_WRITES) return this.#procfs
    // On a thread of the pool: the kernel takes down all that it remembered.
    if (this.#procfs !== null) close(this.#procfs, () => {})
    this.#writes = 1
    this.#procfs = mountKernelFiles("proc")
    return this.#procfs
  }
}
