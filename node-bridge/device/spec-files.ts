/** Reads the files that describe devices, and says when they may have changed. */
import { watch } from "node:fs"
import type { FSWatcher } from "node:fs"
import { readdir, readFile, stat } from "node:fs/promises"
import { join } from "node:path"
import type { SpecFile } from "./inventory.ts"

/** Where CDI has them, the later directory before the earlier: written at installation, and at run time. */
export const DEFAULT_CDI_DIRS: readonly string[] = ["/etc/cdi", "/var/run/cdi"]

/** A file of some hundred devices has about 1 MiB. */
const MAX_FILE_BYTES = 8 * 1024 * 1024

export interface Read {
  readonly files: readonly SpecFile[]
  readonly problems: readonly string[]
  /** Differs when a file came, went or changed. */
  readonly signature: string
}

/** What is the same as `before` is not read again: then null. A directory that is not there holds nothing. */
export async function readSpecFiles(dirs: readonly string[], before: string | null): Promise<Read | null> {
  const found = (await Promise.all(dirs.map((dir, priority) => filesIn(dir, priority)))).flat()
  const signature = JSON.stringify(found)
  if (signature === before) return null
  const problems: string[] = []
  const files: SpecFile[] = []
  for (const { path, priority, size, uid, mode } of found) {
    // Whoever may write here may hand out the host.
    if (uid !== 0 || (mode & 0o022) !== 0) problems.push(`${path} is not used: it must be root's, and writable by root alone`)
    else if (size > MAX_FILE_BYTES) problems.push(`${path} is not used: it is larger than ${MAX_FILE_BYTES} bytes`)
    else {
      const text = await readFile(path, "utf8").catch((error: Error) => problems.push(`${path} is not used: ${error.message}`))
      if (typeof text === "string") files.push({ path, priority, text })
    }
  }
  return { files, problems, signature }
}

async function filesIn(dir: string, priority: number) {
  const names = await readdir(dir).catch(() => [])
  const files = names.filter((name) => /\.(json|yaml)$/.test(name)).sort()
  const looked = await Promise.all(
    files.map(async (name) => {
      const path = join(dir, name)
      const found = await stat(path).catch(() => null)
      if (!found?.isFile()) return []
      const { size, mtimeMs, ino, uid, mode } = found
      return [{ path, priority, size, mtimeMs, ino, uid, mode }]
    }),
  )
  return looked.flat()
}

/** Calls back when something in a directory changes, where the kernel tells; what is missed, the next regular look finds. */
export function watchDirs(dirs: readonly string[], changed: () => void): () => void {
  const watchers = dirs.flatMap((dir): FSWatcher[] => {
    try {
      const watcher = watch(dir, { persistent: false }, changed)
      watcher.on("error", () => watcher.close())
      return [watcher]
    } catch {
      return [] // Not there, or no watch left for us.
    }
  })
  return () => {
    for (const watcher of watchers) watcher.close()
  }
}
