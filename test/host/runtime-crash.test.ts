/** A bridge that dies at a certain line of a start, and the one after it, which goes on with the same run. */
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import type { Assignment } from "../../schema/protocol.ts"
import { MOMENTS } from "../support/dying-bridge.ts"
import type { Moment } from "../support/dying-bridge.ts"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { waitFor } from "../support/wait-for.ts"

const PROGRAM = join(import.meta.dirname, "../support/dying-bridge.ts")

let bench: HostBench
beforeAll(async () => {
  bench = await openHostBench()
})
afterAll(() => bench.close())

function dieAt(moment: Moment, run: Assignment): void {
  const { signal, stderr } = spawnSync(process.execPath, [PROGRAM, bench.dir, moment, JSON.stringify(run)], { encoding: "utf8" })
  expect(signal, stderr).toBe("SIGKILL")
}

/** Every live process that has this text in its command line. */
function naming(text: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(text)
    } catch {
      return false // it has ended
    }
  })
}

const moments = Object.keys(MOMENTS) as Moment[]

it.each(moments)("a run whose bridge died when it was %s runs once, and ends as it ends", async (moment) => {
  const run = bench.shell("trap 'exit 3' TERM; echo started; sleep 100 & wait")
  dieAt(moment, run)
  const next = await bench.another()
  try {
    if ((await next.inspect(run.run_id)).kind !== "running") {
      await next.prepare(run, never)
      await next.start(run)
    }
    await waitFor("its first line", async () => (await bench.log(run)).length > 0)
    expect((await bench.log(run)).map(({ text }) => text)).toEqual(["started"])
    expect(await next.inspect(run.run_id)).toMatchObject({ kind: "running" })
    const { init, monitor } = readRecord(bench.paths(run.run_id).record) ?? {}
    expect(naming(run.run_id).toSorted()).toEqual([String(monitor?.pid)])
    process.kill(init?.pid ?? 0, "SIGTERM")
    expect((await next.wait(run.run_id, AbortSignal.timeout(10_000))).exit.code).toBe(3)
  } finally {
    await next.remove(run.run_id)
    await next.close()
  }
})

it.each(moments)(
  "of a run whose bridge died when it was %s the next one leaves nothing, if it is not wanted any more",
  async (moment) => {
    const run = bench.shell("sleep 100")
    dieAt(moment, run)
    const next = await bench.another()
    await next.remove(run.run_id)
    const { dir, bundle, mounts, exitFile } = bench.paths(run.run_id)
    expect([dir, bundle, mounts, exitFile].filter((path) => existsSync(path))).toEqual([])
    expect(naming(run.run_id)).toEqual([])
    await next.close()
  },
)

it("a release that cannot take one thing away takes the others, and comes to its end when it is tried again", async () => {
  const run = await bench.up(bench.shell("sleep 100", { network: { egress: "open" } }))
  const { mounts, record } = bench.paths(run.run_id)
  const address = readRecord(record)?.address ?? ""
  const reachable = () => execFileSync("nft", ["list", "ruleset"], { encoding: "utf8" }).includes(`${address} `)
  expect(reachable()).toBe(true)
  execFileSync("mount", ["-t", "tmpfs", "none", mounts])
  try {
    await expect(bench.controller.release(run.run_id)).rejects.toThrow("rm:")
    expect(reachable()).toBe(false)
    expect(bench.images.holders).not.toContain(run.run_id)
    expect(await bench.controller.inspect(run.run_id)).toMatchObject({ kind: "exited", outcome: { exit: { code: 137 } } })
  } finally {
    execFileSync("umount", [mounts])
  }
  await bench.controller.release(run.run_id)
  expect(existsSync(mounts)).toBe(false)
})
