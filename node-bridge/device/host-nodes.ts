/** The device nodes of the host: read for what a grant needs, and opened now and then to see whether the device is there. */
import { constants } from "node:fs"
import { open, realpath, stat } from "node:fs/promises"
import { patience } from "../disk/patience.ts"
import type { PlannedMount, PlannedNode } from "./plan.ts"

/** A driver may load its firmware at the first `open`, and one may hang there. */
const OPEN_TIMEOUT_MS = 5_000

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
  const opened = () =>
    open(hostPath, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
      .then((file) => file.close())
      .then(
        () => "open",
        (error: NodeJS.ErrnoException) => error.code ?? "unknown",
      )
  const answer = await patience.ask(`device ${hostPath}`, opened, OPEN_TIMEOUT_MS)
  // While others hang nothing is known of this one, and nothing held against it.
  if (answer === null && patience.hangs(`device ${hostPath}`)) throw new Error(`${hostPath} does not answer`)
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
