/** Removes every container that a node's state folder knows, with no control plane to ask: what `--reset` does before it deletes. */
import { existsSync } from "node:fs"
import { silentLog } from "../node-bridge/log.ts"
import { createOciController } from "../node-bridge/runtime/oci-controller.ts"

/** Idempotent; a folder that never was is success. */
export async function purgeNode(stateDir: string, runtime: "crun" | "runc"): Promise<void> {
  if (!existsSync(stateDir)) return
  const controller = await createOciController({ stateDir, runtime, imagesDir: null, log: silentLog })
  for (const run of await controller.list()) await controller.remove(run)
  await controller.close()
}
