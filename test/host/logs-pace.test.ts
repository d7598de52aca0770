/** The rate at which a container may log: by the clock, with nothing lost, and with its monitor never left stopped. */
import { readFileSync } from "node:fs"
import { afterAll, beforeAll, expect, test } from "vitest"
import { parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import { identify, parseStat } from "../../node-bridge/runtime/process-identity.ts"
import type { RunId } from "../../schema/ids.ts"
import type { Notice } from "../../schema/protocol.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { waitFor } from "../support/wait-for.ts"

const MIB = 1024 * 1024
let bench: HostBench
const notices: Omit<Notice, "id">[] = []

beforeAll(async () => {
  bench = await openHostBench()
  bench.controller.listen({ notice: (notice) => notices.push(notice), facts: () => {}, condition: () => {} })
})
afterAll(() => bench.close())

const logging = (script: string, log_bytes_per_second: number) => bench.shell(script, { resources: { log_bytes_per_second } })
const told = (runId: RunId) => notices.filter(({ run_id }) => run_id === runId).map(({ kind }) => kind)
const monitorOf = (runId: RunId) => readRecord(bench.paths(runId).record)?.monitor?.pid ?? 0
const isStopped = (pid: number) => parseStat(readFileSync(`/proc/${pid}/stat`, "latin1"))?.state === "T"

test("a container that floods its log is held to its rate, told of once, and not one line is lost", async () => {
  const began = performance.now()
  const run = logging("seq 1 150000; exit 3", 2 * MIB)
  await bench.up(run)
  expect((await bench.outcome(run)).exit.code).toBe(3)
  const seconds = (performance.now() - began) / 1_000
  const entries = await bench.log(run)
  const lines = entries.map(({ text, partial }) => (partial ? text : `${text}\n`)).join("")
  expect(lines).toBe(Array.from({ length: 150_000 }, (_, at) => `${at + 1}\n`).join(""))
  const stored = lines.length + entries.length * "2026-01-01T00:00:00.000000000+00:00 stdout F ".length
  // A second's worth at once is allowed, and what the monitor wrote before it was looked at.
  expect(stored / (seconds + 3)).toBeLessThan(2 * MIB)
  expect(told(run.run_id)).toEqual(["logs_throttled"])
})

test("one that stays below its rate is never made to wait", async () => {
  const run = logging("for i in 1 2 3 4 5 6 7 8; do seq 1 100; sleep 0.1; done", MIB)
  expect((await bench.through(run)).outcome.exit.code).toBe(0)
  expect(told(run.run_id)).toEqual([])
})

test("a kill is seen at once while the monitor waits, and waits no longer", async () => {
  const run = await bench.up(logging("yes 0123456789012345678901234567890123456789", MIB))
  const pid = monitorOf(run.run_id)
  await waitFor("the monitor to wait", () => isStopped(pid))
  const began = performance.now()
  await bench.controller.signal(run.run_id, "SIGKILL")
  expect((await bench.outcome(run)).exit.code).toBe(137)
  expect(performance.now() - began).toBeLessThan(1_000)
})

test("the monitor's processor time is charged to a cgroup of its own and bounded, whatever the rate", async () => {
  const run = await bench.up(logging("yes", 1024 * MIB))
  const { mounts, version } = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  const dir = `${mounts.get(version === 2 ? "unified" : "cpu")}/berth-monitors/${run.run_id}`
  expect(readFileSync(`${dir}/cgroup.procs`, "latin1").trim()).toBe(String(monitorOf(run.run_id)))
  const ticks = () =>
    readFileSync(`/proc/${monitorOf(run.run_id)}/stat`, "latin1")
      .split(") ")[1]
      ?.split(" ")
      .slice(11, 13)
      .reduce((sum, text) => sum + Number(text), 0) ?? 0
  const began = { at: performance.now(), ticks: ticks() }
  await waitFor("some of it", () => performance.now() - began.at > 1_500)
  const used = (ticks() - began.ticks) / 100 / ((performance.now() - began.at) / 1_000)
  expect(used).toBeGreaterThan(0.05)
  expect(used).toBeLessThan(0.15)
  await bench.controller.remove(run.run_id)
})

test("a monitor that a killed bridge left stopped tells the next one how its container ended", async () => {
  const run = await bench.up(logging("sleep 0.2; exit 7", MIB))
  const init = readRecord(bench.paths(run.run_id).record)?.init?.pid ?? 0
  const monitor = monitorOf(run.run_id)
  process.kill(monitor, "SIGSTOP")
  await waitFor("the container to end", () => identify(init) === null)
  expect((await bench.controller.inspect(run.run_id)).kind).toBe("running")
  const next = await bench.another()
  expect((await next.wait(run.run_id, AbortSignal.timeout(5_000))).exit.code).toBe(7)
  await next.close()
})

test("a bridge that closes leaves no monitor stopped", async () => {
  const next = await bench.another()
  const run = logging("yes", 64 * 1024)
  await next.prepare(run, AbortSignal.timeout(10_000))
  await next.start(run)
  const pid = monitorOf(run.run_id)
  await waitFor("the monitor to wait", () => isStopped(pid))
  await next.close()
  expect(isStopped(pid)).toBe(false)
  await bench.controller.remove(run.run_id)
})
