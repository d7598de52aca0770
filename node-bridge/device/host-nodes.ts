/**
 * The device nodes of the host: read for what a grant needs, and opened now and then to see whether the device is there. A
 * driver may hang in `open`, and with it a thread of the few that all file work shares: such a node is not opened again
 * until it has answered, and once several hang, none is.
 */
import { constants } from "node:fs"
import { open, realpath, stat } from "node:fs/promises"
import type { PlannedMount, PlannedNode } from "./plan.ts"

const OPEN_TIMEOUT_MS = 5_000
/** libuv has four threads. */
const MOST_HANGING = 2
const hanging = new Set<string>()

export interface HostNode {
  readonly type: "b" | "c"
  readonly major: number
  readonly minor: number
  readonly mode: number
}

/** Throws a sentence. */
export async function readNode({ hostPath, type, major, minor }: PlannedNode): Promise<HostNode> {
  const found = await stat(hostPath).catch((error: NodeJS.ErrnoException) => {
    throw new Error(`${hostPath} is gone (${error.code ?? "unknown"})`)
  })
  if (!found.isCharacterDevice() && !found.isBlockDevice()) throw new Error(`${hostPath} is not a device node`)
  const node: HostNode = {
    type: found.isBlockDevice() ? "b" : "c",
    // As glibc's gnu_dev_major and gnu_dev_minor; numbers of today's kernels fit in 32 bits.
    major: (found.rdev >>> 8) & 0xfff,
    minor: (found.rdev & 0xff) | ((found.rdev >>> 12) & 0xfff00),
    mode: found.mode & 0o666,
  }
  const same = (type === null || type === node.type) && (major === null || (major === node.major && minor === node.minor))
  if (!same) throw new Error(`${hostPath} is ${node.type} ${node.major}:${node.minor} and not what its description says`)
  return node
}

/** Throws a sentence when the device does not answer. Busy, or not to be read, is an answer. */
export async function probeNode(node: PlannedNode): Promise<void> {
  await readNode(node)
  const { hostPath } = node
  if (hanging.has(hostPath)) throw new Error(`${hostPath} does not answer`)
  if (hanging.size >= MOST_HANGING) return
  hanging.add(hostPath)
  const opened = open(hostPath, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
    .then((file) => file.close())
    .catch((error: NodeJS.ErrnoException) => error.code)
    .finally(() => hanging.delete(hostPath))
  const late = Promise.withResolvers<"late">()
  const timer = setTimeout(() => late.resolve("late"), OPEN_TIMEOUT_MS)
  const answer = await Promise.race([opened, late.promise]).finally(() => clearTimeout(timer))
  if (answer === "late") throw new Error(`${hostPath} does not answer`)
  if (answer === "ENODEV" || answer === "ENXIO") throw new Error(`${hostPath} has no device behind it (${answer})`)
}

/** What a mount is made from: with no link left to follow. Throws a sentence. */
export async function readSource({ hostPath }: PlannedMount): Promise<{ readonly path: string; readonly isDirectory: boolean }> {
  try {
    const path = await realpath(hostPath)
    return { path, isDirectory: (await stat(path)).isDirectory() }
  } catch (error) {
    throw new Error(`${hostPath} is gone (${(error as NodeJS.ErrnoException).code ?? "unknown"})`, { cause: error })
  }
}
