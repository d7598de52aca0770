/**
 * An image's root as a tenant's own: the same files, never copied and never chowned, seen through a detached mount that maps
 * ids 0 … 65,535 of the image to the tenant's. It exists as a descriptor only; the host's mount table does not grow.
 */
import { closeSync } from "node:fs"
import { MOUNT_ATTR, SystemCallError, detachedMount } from "../native/libc.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { HeldPath, IdRange, RootMounts } from "../runtime/ports.ts"

interface Shared {
  readonly fd: number
  holders: number
}

export class IdmappedRoots implements RootMounts {
  readonly #namespaceOf: (range: IdRange) => Promise<number>
  readonly #shared = new Map<string, Shared>()

  /** `namespaceOf` gives a descriptor of a user namespace that maps the range. */
  constructor(namespaceOf: (range: IdRange) => Promise<number>) {
    this.#namespaceOf = namespaceOf
  }

  async idmapped(rootDir: string, range: IdRange): Promise<HeldPath> {
    const userns = await this.#namespaceOf(range)
    const key = `${range.hostBase} ${rootDir}`
    const shared = this.#shared.get(key) ?? { fd: open(rootDir, userns), holders: 0 }
    this.#shared.set(key, shared)
    shared.holders++
    let held = true
    return {
      path: `/proc/${process.pid}/fd/${shared.fd}`,
      release: () => {
        if (!held) return
        held = false
        shared.holders--
        if (shared.holders > 0) return
        this.#shared.delete(key)
        closeSync(shared.fd)
      },
    }
  }
}

function open(rootDir: string, userns: number): number {
  try {
    return detachedMount(rootDir, MOUNT_ATTR.IDMAP | MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV, userns)
  } catch (cause) {
    const unsupported = cause instanceof SystemCallError && cause.code === "EINVAL"
    throw unsupported
      ? new ControllerError("idmap_unsupported", "The node keeps its images on a file system that cannot map ids.", { cause })
      : new ControllerError("image_mount_failed", "The node could not mount the image.", { retryable: true, cause })
  }
}
