/**
 * One user namespace for every tenant, created by the tenant's own uid: the kernel counts inotify instances, message queues,
 * keys and namespaces against the creator, so one that root made would let a tenant use up root's share and every other's.
 *
 * It is held as a descriptor. The helper that creates it ends as soon as it is opened, or when this process dies, for then
 * its pipe closes: nothing is left to clear.
 */
import { closeSync, openSync, writeFileSync } from "node:fs"
import { createInterface } from "node:readline"
import type { Readable } from "node:stream"
import type { TenantId } from "../../schema/ids.ts"
import { ControllerError } from "../runtime/controller.ts"
import { TOOL_ENV, exec, startDetached } from "../runtime/exec.ts"
import type { IdRange, IdRanges, UserNamespaces } from "../runtime/ports.ts"

/** The helper answers in some 5 ms; on a machine that is out of memory or processes it may never. */
const HELPER_TIMEOUT_MS = 10_000

/**
 * What a tenant may have in all its containers together, besides the host's own limits per user. No namespaces of users or
 * networks: the runtime needs neither from here, and both are a wide door into the kernel.
 */
const CAPS = {
  max_user_namespaces: 0,
  max_net_namespaces: 0,
  max_inotify_instances: 512,
  max_inotify_watches: 65_536,
} as const

export class TenantNamespaces implements UserNamespaces {
  readonly #ranges: IdRanges
  /** By the first host id of the range; the promise is shared by all who ask meanwhile. */
  readonly #held = new Map<number, Promise<number>>()

  constructor(ranges: IdRanges) {
    this.#ranges = ranges
  }

  async of(tenantId: TenantId): Promise<{ readonly path: string }> {
    const fd = await this.descriptor(await this.#ranges.rangeOf(tenantId))
    return { path: `/proc/${process.pid}/fd/${fd}` }
  }

  /** The namespace of a range; it stays ours: do not close it. */
  descriptor(range: IdRange): Promise<number> {
    const known = this.#held.get(range.hostBase)
    if (known !== undefined) return known
    const made = make(range)
    this.#held.set(range.hostBase, made)
    made.catch(() => this.#held.delete(range.hostBase))
    return made
  }

  async close(): Promise<void> {
    const held = [...this.#held.values()]
    this.#held.clear()
    for (const result of await Promise.allSettled(held)) if (result.status === "fulfilled") closeSync(result.value)
  }
}

async function make(range: IdRange): Promise<number> {
  const id = String(range.hostBase)
  // The helper says its pid, then lives until its end of the pipe closes.
  const helper = ["unshare", "--user", "sh", "-c", "echo $$ >&3; exec cat <&3 >/dev/null"]
  const { pipes, exited, stderr } = startDetached("setpriv", ["--reuid", id, "--regid", id, "--clear-groups", ...helper], {
    cwd: "/",
    env: TOOL_ENV,
    pipes: 1,
  })
  const [pipe] = pipes
  if (pipe === undefined) throw new Error("no pipe to the helper")
  let fd: number | null = null
  try {
    const pid = await Promise.race([pidFrom(pipe), exited.then(() => null)])
    if (pid === null) throw new Error(stderr())
    fd = openSync(`/proc/${pid}/ns/user`, "r")
    const map = `0 ${range.hostBase} ${range.size}\n`
    writeFileSync(`/proc/${pid}/uid_map`, map)
    writeFileSync(`/proc/${pid}/gid_map`, map)
    await cap(fd)
    return fd
  } catch (cause) {
    if (fd !== null) closeSync(fd)
    throw new ControllerError("user_namespace_failed", "The node could not make the tenant's user namespace.", {
      retryable: true,
      cause,
    })
  } finally {
    pipe.destroy()
  }
}

async function pidFrom(pipe: Readable): Promise<number> {
  const lines = createInterface({ input: pipe, signal: AbortSignal.timeout(HELPER_TIMEOUT_MS) })
  for await (const line of lines) return Number(line)
  throw new Error("the helper ended before it said its pid")
}

/** As root of the namespace, for only that one may set its limits. */
async function cap(fd: number): Promise<void> {
  const script = Object.entries(CAPS)
    .map(([name, value]) => `echo ${value} > /proc/sys/user/${name}`)
    .join(" && ")
  const enter = [`--user=/proc/${process.pid}/fd/${fd}`, "--setuid", "0", "--setgid", "0", "sh", "-c", script]
  const { code, stderr } = await exec("nsenter", enter, { timeoutMs: HELPER_TIMEOUT_MS })
  if (code !== 0) throw new Error(stderr)
}
