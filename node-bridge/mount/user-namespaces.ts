/**
 * One user namespace for every tenant, created by the tenant's own uid: the kernel counts inotify instances, message queues,
 * keys, pending signals and namespaces against the creator, so one that root made would let a tenant use up root's share and
 * every other's. All containers of a tenant are in the same one, so that its limits hold for them together.
 *
 * It is held as a descriptor. The helper that creates it ends as soon as it is opened, or when this process dies, for then
 * its pipe closes: nothing is left to clear. Live containers keep it, and the next bridge takes it over from one of them.
 */
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs"
import { createInterface } from "node:readline"
import type { Readable } from "node:stream"
import type { TenantId } from "../../schema/ids.ts"
import { namespaceOwner } from "../native/libc.ts"
import { ControllerError } from "../runtime/controller.ts"
import { TOOL_ENV, exec, startDetached } from "../runtime/exec.ts"
import type { IdRange, IdRanges, UserNamespaces } from "../runtime/ports.ts"
import { isAlive } from "../runtime/process-identity.ts"
import type { ProcessIdentity } from "../runtime/process-identity.ts"

/** The helper answers in some 5 ms; on a machine that is out of memory or processes it may never. */
const HELPER_TIMEOUT_MS = 10_000

/** More containers of one tenant than any node has had; each has one of every kind, and two mount namespaces for an instant. */
const MOST_CONTAINERS = 4_096

/**
 * What a tenant may have in all its containers together, as user_namespaces(7) counts it. The host's own limits per user hold
 * besides (of inotify instances Debian gives 128). No namespaces of users, networks or clocks: the runtime makes none of them
 * from here, and they are a wide door into the kernel. No fanotify: the filter lets nobody ask for it.
 */
const CAPS = {
  max_user_namespaces: 0,
  max_net_namespaces: 0,
  max_time_namespaces: 0,
  max_mnt_namespaces: 2 * MOST_CONTAINERS,
  max_pid_namespaces: MOST_CONTAINERS,
  max_ipc_namespaces: MOST_CONTAINERS,
  max_uts_namespaces: MOST_CONTAINERS,
  max_cgroup_namespaces: MOST_CONTAINERS,
  max_inotify_instances: 512,
  max_inotify_watches: 65_536,
  max_fanotify_groups: 0,
  max_fanotify_marks: 0,
} as const

/**
 * What the kernel keeps per user and bounds by the limits that the namespace's creator had (getrlimit(2)); each container's
 * processes have the bridge's own limits as well. Bytes in POSIX message queues and in locked memory, and signals that wait
 * to be delivered, armed timers among them.
 */
const LIMITS = { msgqueue: 819_200, memlock: 8 * 1024 * 1024, sigpending: 16_384 } as const
const LIMIT_LINE = { msgqueue: "Max msgqueue size", memlock: "Max locked memory", sigpending: "Max pending signals" } as const

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

  async adopt(live: readonly { readonly tenantId: TenantId; readonly init: ProcessIdentity }[]): Promise<void> {
    for (const { tenantId, init } of live) {
      const range = await this.#ranges.rangeOf(tenantId)
      if (this.#held.has(range.hostBase)) continue
      const fd = openOf(init, range)
      if (fd === null) continue
      try {
        await cap(fd) // by this version's idea of it
        this.#held.set(range.hostBase, Promise.resolve(fd))
      } catch {
        closeSync(fd)
      }
    }
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

/** Null when the process has ended, or its namespace is not the tenant's own. */
function openOf(init: ProcessIdentity, range: IdRange): number | null {
  let fd: number
  try {
    fd = openSync(`/proc/${init.pid}/ns/user`, "r")
  } catch {
    return null
  }
  try {
    const mapped = readFileSync(`/proc/${init.pid}/uid_map`, "utf8").trim().split(/\s+/).map(Number)
    const [inside, outside, count] = mapped
    const whole = mapped.length === 3 && inside === 0 && outside === range.hostBase && count === range.size
    // Looked at last: what was read before is then of this process and of none that came after it.
    if (whole && namespaceOwner(fd) === range.hostBase && isAlive(init)) return fd
  } catch {
    // It ended while we looked.
  }
  closeSync(fd)
  return null
}

async function make(range: IdRange): Promise<number> {
  const id = String(range.hostBase)
  const become = ["setpriv", "--reuid", id, "--regid", id, "--clear-groups"]
  // The helper says its pid, then lives until its end of the pipe closes.
  const helper = ["unshare", "--user", "sh", "-c", "echo $$ >&3; exec cat <&3 >/dev/null"]
  const { pipes, exited, stderr } = startDetached("prlimit", [...limitOptions(), ...become, ...helper], {
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

/** Never above the bridge's own: without CAP_SYS_RESOURCE a hard limit can only fall. */
function limitOptions(): string[] {
  const own = readFileSync("/proc/self/limits", "utf8")
  return Object.entries(LIMITS).map(([name, ours]) => {
    const line = own.split("\n").find((each) => each.startsWith(LIMIT_LINE[name as keyof typeof LIMITS]))
    const hard = line?.trim().split(/\s{2,}/)[2]
    const value = hard === undefined || hard === "unlimited" ? ours : Math.min(ours, Number(hard))
    return `--${name}=${value}:${value}`
  })
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
