/** Bridges that die in the middle: a runtime that can be made to hang or to fail stands in for bad luck. */
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import type { Controller } from "../../node-bridge/runtime/controller.ts"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { snapshot } from "../support/leftovers.ts"
import { waitFor } from "../support/wait-for.ts"

let bench: HostBench
let dir: string
const nexts: Controller[] = []

async function aNextBridge(): Promise<Controller> {
  const next = await bench.another()
  nexts.push(next)
  return next
}

/** A crun that stops for ever, or dies, at the verb that is named in a file. */
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "berth-cut-"))
  const crun = join(dir, "crun")
  writeFileSync(
    crun,
    `#!/bin/busybox sh
for word in "$@"; do
  [ ! -e ${dir}/hang-$word ] || { echo > ${dir}/hung; kill -STOP $$; }
  [ ! -e ${dir}/die-$word ] || { echo "no such luck in ${dir}" >&2; exit 1; }
done
exec /usr/bin/crun "$@"
`,
  )
  chmodSync(crun, 0o755)
  bench = await openHostBench({ tools: { crun } })
})
afterAll(async () => {
  // Whoever closes takes the runtime directory away once it is empty, and the first bridge still works in it.
  for (const next of nexts) await next.close()
  await bench.close()
  rmSync(dir, { recursive: true, force: true })
})

const clearFaults = () =>
  readdirSync(dir)
    .filter((name) => name !== "crun")
    .forEach((name) => rmSync(join(dir, name)))

test("a bridge that dies during create leaves nothing that the next one cannot clear", async () => {
  writeFileSync(join(dir, "hang-create"), "")
  const run = bench.shell("sleep 100")
  await bench.controller.prepare(run, never)
  const cut = bench.controller.start(run).catch((error: unknown) => error)
  await waitFor("the runtime to hang", () => existsSync(join(dir, "hung")))
  clearFaults()
  const next = await aNextBridge()
  expect(await next.list()).toContain(run.run_id)
  expect(await next.inspect(run.run_id)).toEqual({ kind: "absent" })
  await next.remove(run.run_id)
  await cut
  await waitFor("no process of it", () => snapshot([run.run_id]).processes.length === 0)
  expect(snapshot([]).cgroups.filter((path) => path.includes(run.run_id))).toEqual([])
  expect(await next.list()).not.toContain(run.run_id)
})

test("the next bridge may also start it", async () => {
  writeFileSync(join(dir, "hang-create"), "")
  const run = bench.shell("echo once; exit 6")
  await bench.controller.prepare(run, never)
  const cut = bench.controller.start(run).catch((error: unknown) => error)
  await waitFor("the runtime to hang", () => existsSync(join(dir, "hung")))
  clearFaults()
  const next = await aNextBridge()
  await next.prepare(run, never)
  await next.start(run)
  await cut
  expect((await next.wait(run.run_id, never)).exit).toMatchObject({ code: 6, log_tail: ["once"] })
  await next.remove(run.run_id)
})

test("a create that fails says so without the host's paths, and the same bridge may try again", async () => {
  writeFileSync(join(dir, "die-create"), "")
  const run = bench.shell("exit 3")
  await bench.controller.prepare(run, never)
  const error: unknown = await bench.controller.start(run).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ reason: { code: "start_failed" } })
  clearFaults()
  await bench.controller.start(run)
  expect((await bench.outcome(run)).exit.code).toBe(3)
})

test("an aborted prepare leaves nothing once removed", async () => {
  const run = bench.shell("true")
  const reason = new Error("no longer wanted")
  await expect(bench.controller.prepare(run, AbortSignal.abort(reason))).rejects.toBe(reason)
  await bench.controller.remove(run.run_id)
  expect(await bench.controller.list()).not.toContain(run.run_id)
  expect(bench.images.holders.has(run.run_id)).toBe(false)
})
