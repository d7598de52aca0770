/**
 * The folder of a bench, and what is done about those of benches that were killed: nobody comes back to them, and their
 * containers would run for ever. A folder says whose it is; Docker's daemon ends with its bench by itself.
 */
import { existsSync } from "node:fs"
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { layoutOf } from "../../../bin/platform.ts"
import { purgeNode } from "../../../bin/purge.ts"
import { identify, isAlive } from "../../../node-bridge/runtime/process-identity.ts"
import type { ProcessIdentity } from "../../../node-bridge/runtime/process-identity.ts"
import { removeCgroups } from "../contenders/dockerd.ts"
import { deleteBareContainers } from "../contenders/bare-crun.ts"

const PREFIX = "berth-bench-"
const OWNER = "owner"

/** A new folder of this process's. What dead benches left is cleared first. */
export async function openScratch(say: (line: string) => void): Promise<string> {
  for (const name of await readdir(tmpdir())) {
    const dir = join(tmpdir(), name)
    const owner = name.startsWith(PREFIX) ? await ownerOf(dir) : null
    if (owner === null || isAlive(owner)) continue
    say(`clearing what a killed bench left in ${dir}`)
    await clear(dir, owner.pid)
  }
  const scratch = await mkdtemp(join(tmpdir(), PREFIX))
  await chmod(scratch, 0o755) // containers' root ids are strangers here, and must reach their root folder
  await writeFile(join(scratch, OWNER), JSON.stringify(identify(process.pid)))
  return scratch
}

/** Null when the folder is no bench's, or one that died before it could say so: there is nothing in that. */
async function ownerOf(dir: string): Promise<ProcessIdentity | null> {
  try {
    return JSON.parse(await readFile(join(dir, OWNER), "utf8")) as ProcessIdentity
  } catch {
    return null
  }
}

async function clear(dir: string, pid: number): Promise<void> {
  const { node } = layoutOf(join(dir, "state"))
  if (existsSync(node)) await purgeNode(node, "crun")
  await deleteBareContainers(join(dir, "crun"))
  await removeCgroups(`${PREFIX}${pid}`)
  await rm(dir, { recursive: true, force: true })
}
