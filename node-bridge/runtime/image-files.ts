/**
 * Reads a small text file out of an unpacked image as the container would see it: links are followed inside the image's
 * root, never out of it, whatever they say. Nobody writes to an unpacked root, so that looking and then opening is safe.
 */
import { lstatSync, readFileSync, readlinkSync } from "node:fs"
import { join } from "node:path"

/** A passwd or group file above this is no such file. */
const MAX_TEXT_BYTES = 1024 * 1024
/** As the kernel's own limit (ELOOP). */
const MAX_LINKS = 40

/** The file's text; empty when there is none, it is no regular file, or it is too large. */
export function readImageText(rootDir: string, path: string): string {
  const found = resolveInside(rootDir, path)
  if (found === null) return ""
  const stat = lstatSync(found, { throwIfNoEntry: false })
  return stat?.isFile() && stat.size <= MAX_TEXT_BYTES ? readFileSync(found, "utf8") : ""
}

/** The host path of a path inside the root with every link resolved inside the root; null when something is missing. */
export function resolveInside(rootDir: string, path: string): string | null {
  const todo = parts(path)
  const done: string[] = []
  let links = 0
  for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
    if (part === "..") {
      done.pop()
      continue
    }
    const here = join(rootDir, ...done, part)
    const stat = lstatSync(here, { throwIfNoEntry: false })
    if (stat === undefined) return null
    if (!stat.isSymbolicLink()) {
      done.push(part)
      continue
    }
    if (++links > MAX_LINKS) return null
    const target = readlinkSync(here)
    if (target.startsWith("/")) done.length = 0
    todo.unshift(...parts(target))
  }
  return join(rootDir, ...done)
}

const parts = (path: string) => path.split("/").filter((part) => part !== "" && part !== ".")
