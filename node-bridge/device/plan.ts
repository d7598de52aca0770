/**
 * What a container gets with its devices: CDI's edits, checked and made smaller. Pure. Whatever would reach past the
 * container is refused with a reason rather than left out: a device that lacks half of what its vendor wants would fail in
 * ways that nobody could read.
 */
import { IDS_PER_TENANT } from "../mount/id-ranges.ts"
import type { ContainerEdits, DeviceNode, Hook, Mount } from "./cdi-schema.ts"

export interface PlannedNode {
  /** In the container. */
  readonly path: string
  readonly hostPath: string
  /** As the file says; null: as the host's node has it. */
  readonly type: "b" | "c" | null
  readonly major: number | null
  readonly minor: number | null
  /** Some of `r` and `w`. A container makes no nodes, so `m` is given to none. */
  readonly access: string
  /** Permission bits; null: the host node's. */
  readonly mode: number | null
  /** Ids inside the container; null: its user's. */
  readonly uid: number | null
  readonly gid: number | null
}

export interface PlannedMount {
  readonly hostPath: string
  readonly path: string
  readonly writable: boolean
  readonly executable: boolean
}

export interface PlannedHook {
  readonly path: string
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly timeoutSeconds: number
}

export interface DevicePlan {
  readonly env: readonly string[]
  readonly nodes: readonly PlannedNode[]
  readonly mounts: readonly PlannedMount[]
  /** Run once the container is made and before its process starts. */
  readonly hooks: readonly PlannedHook[]
  readonly additionalGids: readonly number[]
}

const DEFAULT_HOOK_SECONDS = 30
/** Of a hook that says so itself: a start has 60 seconds. */
const LONGEST_HOOK_SECONDS = 50
/** Below these, a mount would stand before something of the kernel's, or of ours. */
const CLOSED = ["/proc", "/sys", "/dev"]
const OURS = ["/", "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
/** Nodes that every container has, and directories in `/dev` with mounts of their own. */
const STANDARD = [
  "null",
  "zero",
  "full",
  "random",
  "urandom",
  "tty",
  "console",
  "ptmx",
  "stdin",
  "stdout",
  "stderr",
  "fd",
  "core",
]
const TAKEN_BELOW_DEV = ["pts", "shm", "mqueue"]
/** What asks for less, or for what a bind mount is anyway. */
const HARMLESS = new Set(["bind", "rbind", "ro", "nosuid", "nodev", "noexec", "private", "rprivate", "slave", "rslave"])

class Refusal extends Error {}

/** Edits of the file as a whole come first, as CDI has it. */
export function planOf(
  edits: readonly ContainerEdits[],
  allowedHooks: ReadonlySet<string>,
): DevicePlan | { readonly refused: string } {
  try {
    return {
      env: edits.flatMap(({ env }) => env),
      nodes: edits.flatMap(({ deviceNodes }) => deviceNodes.map(nodeOf)),
      mounts: edits.flatMap(({ mounts }) => mounts.map(mountOf)),
      hooks: edits.flatMap(({ hooks }) => hooks.map((hook) => hookOf(hook, allowedHooks))),
      additionalGids: edits.flatMap(({ additionalGids, netDevices, intelRdt }) => {
        if (netDevices.length > 0) throw new Refusal("it brings network interfaces, and containers here have their own alone")
        if (intelRdt != null) throw new Refusal("it sets a cache class (intelRdt), which this node cannot")
        return additionalGids.filter((gid) => gid !== 0).map((gid) => inside(gid, "group"))
      }),
    }
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.message }
    throw error
  }
}

/** What several devices of one run come to together: the same node, mount or hook once. */
export function joinPlans(plans: readonly DevicePlan[]): DevicePlan {
  const once = <T>(of: (plan: DevicePlan) => readonly T[], key: (item: T) => unknown): T[] => [
    ...new Map(plans.flatMap(of).map((item) => [JSON.stringify(key(item)), item])).values(),
  ]
  return {
    env: once(
      ({ env }) => env,
      (text) => text.slice(0, text.indexOf("=")),
    ),
    nodes: once(
      ({ nodes }) => nodes,
      ({ path }) => path,
    ),
    mounts: once(
      ({ mounts }) => mounts,
      ({ path }) => path,
    ),
    hooks: once(
      ({ hooks }) => hooks,
      (hook) => hook,
    ),
    additionalGids: once(
      ({ additionalGids }) => additionalGids,
      (gid) => gid,
    ),
  }
}

function nodeOf({ path, hostPath, type, major, minor, fileMode, permissions, uid, gid }: DeviceNode): PlannedNode {
  const rest = /^\/dev\/((?:[^/]+\/)*[^/]+)$/.exec(path)?.[1]
  if (rest === undefined || path.split("/").includes(".")) throw new Refusal(`its node ${path} would not lie in /dev`)
  if (STANDARD.includes(rest) || TAKEN_BELOW_DEV.includes(rest.split("/", 1)[0] ?? "")) {
    throw new Refusal(`its node ${path} would stand in the place of a standard one`)
  }
  if (type === "p" || type === "u") throw new Refusal(`its node ${path} is of type ${type}: only c and b are handed out`)
  const said = type === "b" || type === "c" ? type : null
  const numbered = said !== null && major !== undefined && minor !== undefined
  return {
    path,
    hostPath: hostPath ?? path,
    type: said,
    major: numbered ? major : null,
    minor: numbered ? minor : null,
    access: accessOf(permissions),
    mode: fileMode === undefined ? null : fileMode & 0o666,
    uid: uid === undefined ? null : inside(uid, "user"),
    gid: gid === undefined ? null : inside(gid, "group"),
  }
}

/** CDI's default is all three. */
function accessOf(permissions: string | undefined): string {
  if (permissions === undefined || permissions === "") return "rw"
  return permissions === "none" ? "" : ["r", "w"].filter((letter) => permissions.includes(letter)).join("")
}

function mountOf({ hostPath, containerPath, options, type }: Mount): PlannedMount {
  const path = containerPath.replace(/\/+/g, "/").replace(/(?<=.)\/$/, "")
  if (type !== undefined && !["", "bind", "none"].includes(type)) {
    throw new Refusal(`its mount at ${path} is of type ${type}: only binds are made`)
  }
  const closed = CLOSED.find((dir) => path === dir || path.startsWith(`${dir}/`))
  if (closed !== undefined) throw new Refusal(`its mount at ${path} would lie in ${closed}`)
  if (OURS.includes(path) || path.split("/").includes(".")) throw new Refusal(`it may not mount at ${path}`)
  const bad = options.find((option) => option !== "rw" && !HARMLESS.has(option))
  if (bad !== undefined) throw new Refusal(`its mount at ${path} asks for ${JSON.stringify(bad)}`)
  return { hostPath, path, writable: options.includes("rw"), executable: !options.includes("noexec") }
}

function hookOf({ hookName, path, args, env, timeout }: Hook, allowed: ReadonlySet<string>): PlannedHook {
  if (!allowed.has(path)) throw new Refusal(`its hook ${path} is not among those that the operator allows (--cdi-hook)`)
  switch (hookName) {
    case "prestart":
    case "createRuntime":
    case "createContainer":
      return { path, args, env, timeoutSeconds: Math.min(timeout ?? DEFAULT_HOOK_SECONDS, LONGEST_HOOK_SECONDS) }
    case "startContainer":
    case "poststart":
    case "poststop":
      throw new Refusal(`its hook ${path} is a ${hookName} one: only those before the start are run`)
  }
}

function inside(id: number, what: "user" | "group"): number {
  if (id >= IDS_PER_TENANT) throw new Refusal(`it names ${what} ${id}, which no container has`)
  return id
}
