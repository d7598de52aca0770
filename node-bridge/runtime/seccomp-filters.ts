/**
 * The filter of every container: the profile's, or the profile's less what the tenant gives up. Compiled once for each set of
 * names, for that takes 3 ms in which this thread does nothing else, and most containers give up nothing.
 */
import { createHash } from "node:crypto"
import { narrowed } from "../oci/seccomp.ts"
import { ControllerError } from "./controller.ts"
import { compileSeccomp, unknownCalls } from "./seccomp-compile.ts"

export interface Filter {
  /** As the kernel takes it, in base64. */
  readonly bpf: string
  /** Of the kernel's form, in hex. */
  readonly sha256: string
}

/** A filter has some 4 KiB. Tenants choose the sets: more of them than this are compiled again when their turn comes. */
const MAX_CACHED = 64

/**
 * What a runtime itself calls between the moment the filter holds and the container's own program. Without one of them nothing
 * starts, and what the runtime then says helps nobody. crun 1.8 needs execve alone, runc 1.1 all of them; a tenant must not have
 * to know which a node has.
 */
export const NEEDED_TO_START: readonly string[] = ["close", "execve", "fstatfs", "futex", "getdents64", "openat", "write"]

/** Throws `ControllerError` in words for the tenant. */
export function checkDenied(deny: readonly string[]): void {
  const [unknown] = unknownCalls(deny)
  if (unknown !== undefined) {
    throw new ControllerError("seccomp_call_unknown", `There is no system call “${unknown}” to deny.`)
  }
  const needed = deny.find((name) => NEEDED_TO_START.includes(name))
  if (needed !== undefined) {
    const message = `The system call “${needed}” cannot be denied: without it no program starts.`
    throw new ControllerError("seccomp_call_needed", message)
  }
}

export class SeccompFilters {
  readonly #scratchDir: string
  /** In the order of their last use. */
  readonly #compiled = new Map<string, Filter>()

  constructor(scratchDir: string) {
    this.#scratchDir = scratchDir
    this.without([]) // a host that cannot compile it must say so at its start
  }

  /** The profile's filter less `deny`. Throws `ControllerError` in words for the tenant. */
  without(deny: readonly string[]): Filter {
    checkDenied(deny)
    const key = [...new Set(deny)].toSorted().join(" ")
    const filter = this.#compiled.get(key) ?? this.#compile(deny)
    this.#compiled.delete(key)
    this.#compiled.set(key, filter)
    for (const oldest of this.#compiled.keys()) {
      if (this.#compiled.size <= MAX_CACHED) break
      if (oldest !== "") this.#compiled.delete(oldest)
    }
    return filter
  }

  #compile(deny: readonly string[]): Filter {
    const program = compileSeccomp(this.#scratchDir, narrowed(deny))
    return { bpf: program.toString("base64"), sha256: createHash("sha256").update(program).digest("hex") }
  }
}
