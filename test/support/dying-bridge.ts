/**
 * A program: a bridge that prepares and starts one run on a host bench's directory, and kills itself at one moment of it. The
 * moment is a call of node:fs that the bridge makes there, so that no line is too short to be hit.
 *
 * `node dying-bridge.ts DIR MOMENT ASSIGNMENT`
 */
import fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import { join } from "node:path"
import type { Assignment } from "../../schema/protocol.ts"

/** In the order of a start. */
export const MOMENTS = {
  "prepared, and not on record": { call: "appendFileSync", of: /"init":null/ },
  "created, and not on record": { call: "readFileSync", of: /\/monitor\.pid$/ },
  "created, and on record": { call: "renameSync", of: /\/exec\.fifo$/ },
  "about to be let go": { call: "writeSync", of: /^\0$/ },
  "let go, and not on record": { call: "appendFileSync", of: /"started_at_ms":\d/ },
} as const satisfies Record<string, { readonly call: keyof typeof fs; readonly of: RegExp }>
export type Moment = keyof typeof MOMENTS

if (process.argv[1] === import.meta.filename) {
  const [dir = "", moment = "", assignment = ""] = process.argv.slice(2)
  const { call, of } = MOMENTS[moment as Moment]
  const real = fs[call] as (...args: unknown[]) => unknown
  let armed = false // the self-test makes a run of its own
  const dying = (...args: unknown[]) => {
    if (armed && args.some((arg) => typeof arg === "string" && of.test(arg))) process.kill(process.pid, "SIGKILL")
    return real(...args)
  }
  Object.assign(fs, { [call]: dying })
  syncBuiltinESMExports()
  const { benchController } = await import("./host-bench.ts")
  const { busyboxStore } = await import("./busybox-image.ts")
  const controller = await benchController(dir, busyboxStore(join(dir, "image")))
  const run = JSON.parse(assignment) as Assignment
  armed = true
  await controller.prepare(run, new AbortController().signal)
  await controller.start(run)
}
