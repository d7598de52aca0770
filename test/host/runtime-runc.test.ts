/** The same seam over runc, which makes a user namespace for each container and compiles the filter itself. */
import { afterAll, beforeAll, expect, test } from "vitest"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"

let bench: HostBench
const MIB = 1024 * 1024

beforeAll(async () => {
  bench = await openHostBench({ runtime: "runc" })
})
afterAll(() => bench.close())

test("its self-test ran, and what it enforces holds", async () => {
  expect(bench.controller.profiles).toMatchObject([{ name: "hardened", runtime: "runc" }])
  const run = await bench.up(bench.shell("sleep 100", { network: { egress: "open" } }))
  const read = await bench.controller.isolation(run.run_id)
  expect(read.deviations).toEqual([])
  expect(read.runtime.name).toBe("runc")
  expect(read.seccomp).toMatchObject({ mode: "filter", filters: 1, sha256: expect.any(String) })
})

test("codes, users and memory are as with crun", async () => {
  const { outcome, text } = await bench.through(bench.shell("id -u; exit 9", { user: "web" }))
  expect([outcome.exit.code, text]).toEqual([9, "1000"])
  const hungry = bench.shell("", {
    command: ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"],
    resources: { cpus: 1, memory_bytes: 24 * MIB, pids: 32 },
  })
  expect((await bench.through(hungry)).outcome.exit).toMatchObject({ code: 137, oom_killed: true })
})

test.each([
  ["a command that is not in PATH", ["nonesuch"], undefined, "command_not_found"],
  ["a file that is no program", ["/etc/notes"], undefined, "command_not_executable"],
  ["a file as working directory", ["true"], "/etc/passwd", "workdir_invalid"],
])("%s is refused in words for the tenant", async (_what, command, workdir, code) => {
  const run = bench.shell("", { command, ...(workdir === undefined ? {} : { workdir }) })
  await bench.controller.prepare(run, never)
  await expect(bench.controller.start(run)).rejects.toMatchObject({ reason: { code } })
  await bench.controller.remove(run.run_id)
  expect(await bench.controller.list()).not.toContain(run.run_id)
})

test("another bridge takes over", async () => {
  const run = await bench.up(bench.shell("sleep 0.5; exit 5"))
  const old = bench.controller
  bench.controller = await bench.another()
  expect((await bench.outcome(run)).exit.code).toBe(5)
  await old.close()
})
