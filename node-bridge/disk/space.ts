/** What the kernel says of the host's disk and of a run's: statfs(2), some 50 µs with all around it. */
import { readdirSync } from "node:fs"
import { statfs } from "node:fs/promises"
import { join } from "node:path"
import { readRecord, RECORD_FILE } from "../runtime/host-record.ts"
import { isAlive } from "../runtime/process-identity.ts"
import type { ProcessIdentity } from "../runtime/process-identity.ts"
import { promisable } from "./capacity.ts"
import type { Space } from "./capacity.ts"
import { patience } from "./patience.ts"

export async function spaceOf(path: string): Promise<Space> {
  const { blocks, bavail, bsize } = await statfs(path)
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize }
}

export interface Usage {
  readonly totalBytes: number
  readonly usedBytes: number
  readonly freeBytes: number
  readonly files: number
  readonly freeFiles: number
}

/** statfs(2) of an overlay tells of its upper layer, which is the run's disk. */
const OVERLAYFS_MAGIC = 0x79_4c_76_30

/** What hangs is the disk under a process's root, and all questions about it wait for the same. */
export const askRoot = <T>(pid: number, question: (root: string) => Promise<T>): Promise<T | null> =>
  patience.ask(`root of ${pid}`, () => question(`/proc/${pid}/root`))

/** The disk under a live process's root; null when it has ended, its root is no container's, or the disk does not answer. */
export async function usageOf(process: ProcessIdentity): Promise<Usage | null> {
  try {
    const found = await askRoot(process.pid, (root) => statfs(root))
    // Another process may have its number by now: so the identity is asked afterwards.
    if (found?.type !== OVERLAYFS_MAGIC || !isAlive(process)) return null
    const { blocks, bfree, bavail, bsize, files, ffree } = found
    const usedBytes = (blocks - bfree) * bsize
    return { totalBytes: blocks * bsize, usedBytes, freeBytes: bavail * bsize, files, freeFiles: ffree }
  } catch {
    return null
  }
}

/** `stateDir` lies on the file system that disks take their space from. */
export async function diskCapacity(stateDir: string, overcommit: number): Promise<number> {
  const [space, live] = await Promise.all([spaceOf(stateDir), writtenByLiveRuns(join(stateDir, "runs"))])
  return promisable(space, live, overcommit)
}

async function writtenByLiveRuns(runsDir: string): Promise<number> {
  let bytes = 0
  for (const name of namesIn(runsDir)) {
    const record = readRecord(join(runsDir, name, RECORD_FILE))
    const process = record?.file_server ?? record?.init
    if (process) bytes += (await usageOf(process))?.usedBytes ?? 0
  }
  return bytes
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return [] // no run was ever here
  }
}
