/**
 * What bridges left in this host's memory that can never come back, for their state directory was deleted: a runtime directory
 * and a table of the packet filter each. A bridge that was killed and whose state is there is another matter: it comes back,
 * and its containers may live.
 *
 * Each runtime directory says whose it is. The state may only seem gone from another mount namespace, and the process from
 * another pid namespace: whoever is in other namespaces than ours is let be.
 */
import { createHash } from "node:crypto"
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { z } from "zod"
import { isId } from "../../schema/ids.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { dropTableOf } from "../network/host.ts"
import type { Cgroups } from "./cgroups.ts"
import { OWNER_FILE, RUNTIME_DIR_PREFIX, hostPaths } from "./paths.ts"
import type { HostPaths } from "./paths.ts"
import { bootId, identify, isAlive } from "./process-identity.ts"
import { removeTrees } from "./teardown.ts"
import type { ToolPaths } from "./tools.ts"

const Owner = z.object({
  state_dir: z.string(),
  process: z.object({ pid: z.int(), startTicks: z.number() }),
  boot_id: z.string(),
  namespaces: z.array(z.string()),
})
type Owner = z.infer<typeof Owner>

const NAMESPACES = ["mnt", "net", "pid"] as const
const ownNamespaces = () => NAMESPACES.map((name) => readlinkSync(`/proc/self/ns/${name}`))

/** Says that the runtime directory is this process's. */
export function claim(host: HostPaths): void {
  const process = identify(globalThis.process.pid)
  if (process === null) throw new Error("this process is not in /proc")
  const owner: Owner = { state_dir: host.stateDir, process, boot_id: bootId(), namespaces: ownNamespaces() }
  writeFileSync(join(host.runtimeDir, OWNER_FILE), JSON.stringify(owner), { mode: 0o600 })
}

export interface ClearHost {
  readonly host: HostPaths
  readonly cgroups: Cgroups
  readonly tools: ToolPaths
  readonly log: Log
}

/** Clears what lies beside our own runtime directory. What cannot be cleared is told, and is no reason not to begin. */
export async function clearLeftBehind({ host, cgroups, tools, log }: ClearHost): Promise<void> {
  const folder = dirname(host.runtimeDir)
  for (const name of readdirSync(folder)) {
    const dir = join(folder, name)
    if (!name.startsWith(RUNTIME_DIR_PREFIX) || dir === host.runtimeDir) continue
    try {
      const gone = deserted(dir)
      if (gone === null) continue
      const runs = [gone.bundlesDir, gone.mountsDir].flatMap((parent) => readdirSync(parent)).filter((id) => isId("run", id))
      if (runs.some((runId) => cgroups.processes(runId).length > 0)) {
        log.warn("containers run whose bridge was killed and whose state was deleted: nobody can take them over", { dir })
        continue
      }
      for (const runId of runs) cgroups.remove(runId)
      await dropTableOf(instanceOf(gone))
      await removeTrees(tools, [dir])
      log.info("cleared what a bridge left whose state was deleted", { state: gone.stateDir })
    } catch (error) {
      log.warn("could not clear what a dead bridge left", { dir, error: explain(error) })
    }
  }
}

const instanceOf = ({ stateDir }: HostPaths) => createHash("sha256").update(stateDir).digest("hex")

/** Whose the directory was, when nobody can ever claim it again; else null. */
function deserted(dir: string): HostPaths | null {
  const { uid, mode } = lstatSync(dir)
  const file = join(dir, OWNER_FILE)
  // Every user may make directories beside ours, where that is /dev/shm.
  if (uid !== 0 || (mode & 0o022) !== 0 || !existsSync(file)) return null
  const owner = Owner.parse(JSON.parse(readFileSync(file, "utf8")))
  const host = hostPaths(owner.state_dir)
  if (basename(host.runtimeDir) !== basename(dir)) return null
  const here = owner.boot_id !== bootId() || ownNamespaces().every((name) => owner.namespaces.includes(name))
  const dead = owner.boot_id !== bootId() || !isAlive(owner.process)
  return here && dead && !existsSync(host.stateDir) ? host : null
}
