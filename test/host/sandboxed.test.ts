/** The same seam over runsc: containers on a kernel of their own, beside hardened ones of the same bridge. */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { Isolation } from "../../schema/isolation.ts"
import { parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import { hostPaths, runtimeRootOf } from "../../node-bridge/runtime/paths.ts"
import type { Notice } from "../../schema/protocol.ts"
import type { SpecChanges } from "../support/assignments.ts"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { waitFor } from "../support/wait-for.ts"

let bench: HostBench
const notices: Omit<Notice, "id">[] = []
const MIB = 1024 * 1024

beforeAll(async () => {
  bench = await openHostBench({ profiles: ["hardened", "sandboxed"] })
  bench.controller.listen({ notice: (notice) => notices.push(notice), facts: () => {}, condition: () => {} })
})
afterAll(() => bench.close())

const sandboxed = (script: string, spec: SpecChanges = {}) => bench.shell(script, { profile: "sandboxed", ...spec })
const runtimeFiles = () => readdirSync(runtimeRootOf(hostPaths(join(bench.dir, "state")), "runsc"))
const initOf = (runId: Parameters<HostBench["paths"]>[0]) => readRecord(bench.paths(runId).record)?.init?.pid ?? 0

test("one bridge offers both profiles, each with what was seen to work under it", () => {
  const [hardened, other] = bench.controller.profiles
  expect(hardened).toMatchObject({ name: "hardened", runtime: "crun" })
  expect(hardened?.features).toEqual(expect.arrayContaining(["network", "seccomp", "pause", "disk_quota"]))
  expect(other).toEqual({ name: "sandboxed", runtime: "runsc", features: expect.arrayContaining(["pause", "disk_quota"]) })
  for (const feature of ["network", "bandwidth", "seccomp", "accelerators"]) expect(other?.features).not.toContain(feature)
  expect(bench.controller.versions["runsc"]).toMatch(/^\S+$/)
})

test("a container runs on a kernel that is not the host's, with its user, code, output and files", async () => {
  const script =
    "cat /proc/version; id -u; cat /etc/hostname; echo kept > /home/web/note && cat /home/web/note; ip addr show eth0; exit 7"
  const { outcome, text } = await bench.through(sandboxed(script, { user: "web", hostname: "boxed" }))
  expect(outcome.exit).toMatchObject({ code: 7, signal: null, oom_killed: false })
  expect(text).toMatch(/^Linux version 4\.4\.0/)
  expect(text).toContain("\n1000\nboxed")
  expect(text).not.toMatch(/inet /)
  expect((await bench.through(bench.shell("cat /proc/version"))).text).not.toMatch(/^Linux version 4\.4\.0/)
})

test("what the host enforces around it is what the profile promises", async () => {
  const limits = { cpus: 0.5, memory_bytes: 96 * MIB, pids: 17 }
  const run = await bench.up(sandboxed("sleep 100", { resources: limits }))
  const read = Isolation.parse(await bench.controller.isolation(run.run_id))
  expect(read.deviations).toEqual([])
  expect(read).toMatchObject({ profile: "sandboxed", runtime: { name: "runsc" }, no_new_privileges: true, verdict: "holds" })
  expect(read.versions).toMatchObject({ runsc: expect.any(String), kernel: expect.any(String), conmon: expect.any(String) })
  expect(read.user).toMatchObject({ uid_map: [{ inside: 65_534, outside: 65_534, count: 1 }], root_is_host_root: false })
  expect(read.seccomp).toMatchObject({ mode: "filter", sha256: expect.stringMatching(/^[0-9a-f]{64}$/) })
  expect(read.limits).toMatchObject({ cpus: 0.5, memory_bytes: 96 * MIB, memory_swap_bytes: 96 * MIB, pids: 512 + 170 })
  expect(read.network).toMatchObject({ mode: "loopback", interfaces: ["lo"], egress: "none" })
  expect(read.namespaces["pid"]?.shared_with).toBe("host")
  expect(read.namespaces["network"]?.shared_with).toBe("nobody")
  expect(read.devices).toEqual([])
})

test("the host's /dev/null stays as it is, though runsc gives its standard input to the user it runs as", async () => {
  const before = statSync("/dev/null")
  await bench.through(sandboxed("echo gone > /dev/null"))
  await bench.through(bench.shell("echo gone > /dev/null"))
  const { uid, gid, mode } = statSync("/dev/null")
  expect({ uid, gid, mode }).toEqual({ uid: before.uid, gid: before.gid, mode: before.mode })
  expect([uid, gid]).not.toContain(65_534)
})

test("its disk ends where its quota does", async () => {
  const run = await bench.up(
    sandboxed("dd if=/dev/zero of=/fill bs=1M count=64 2>&1; sleep 100", { resources: { disk_bytes: 32 * MIB } }),
  )
  await waitFor(
    "the disk to be full",
    async () => (await bench.log(run)).some(({ text }) => text.includes("No space left")),
    10_000,
  )
  const { limits, deviations } = await bench.controller.isolation(run.run_id)
  expect(deviations).toEqual([])
  expect(limits.disk_bytes).toBeLessThanOrEqual(32 * MIB)
  await waitFor("word of it", () => notices.some(({ run_id, kind }) => run_id === run.run_id && kind === "disk_full"))
})

test("memory that it may not have ends it, and the host says why", async () => {
  const hungry = sandboxed("", {
    command: ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"],
    resources: { memory_bytes: 80 * MIB },
  })
  expect((await bench.through(hungry)).outcome.exit).toMatchObject({ code: 137, oom_killed: true })
})

test("it does not die of having the processes that it asked for", async () => {
  const script = "i=0; while [ $i -lt 30 ]; do sleep 100 & i=$((i+1)); done; echo made $i; sleep 0.5; echo alive"
  const { outcome, text } = await bench.through(sandboxed(script, { resources: { pids: 32 } }))
  expect([outcome.exit.code, text]).toEqual([0, "made 30\nalive"])
})

test("signals, pause and kill reach it", async () => {
  const run = await bench.up(
    sandboxed('trap "echo usr1" USR1; trap "echo term; exit 9" TERM; echo up; while :; do sleep 0.05; done'),
  )
  const says = (word: string) => waitFor(word, async () => (await bench.log(run)).some(({ text }) => text === word), 10_000)
  await says("up")
  await bench.controller.signal(run.run_id, "SIGUSR1")
  await says("usr1")
  await bench.controller.pause(run.run_id)
  expect(await bench.controller.inspect(run.run_id)).toMatchObject({ kind: "running", paused: true })
  expect((await bench.controller.isolation(run.run_id)).deviations).toEqual([])
  await bench.controller.unpause(run.run_id)
  await bench.controller.signal(run.run_id, "SIGTERM")
  expect((await bench.outcome(run)).exit).toMatchObject({ code: 9, signal: null })
  const other = await bench.up(sandboxed("sleep 100"))
  await bench.controller.signal(other.run_id, "SIGKILL")
  expect((await bench.outcome(other)).exit).toMatchObject({ code: 137, signal: "SIGKILL", oom_killed: false })
})

test("another bridge takes it over, and nothing of it is left after", async () => {
  const run = await bench.up(sandboxed("sleep 1; exit 5"))
  const waiting = sandboxed("true")
  await bench.controller.prepare(waiting, never)
  const old = bench.controller
  bench.controller = await bench.another()
  expect(await bench.controller.inspect(run.run_id)).toMatchObject({ kind: "running" })
  expect((await bench.controller.isolation(run.run_id)).deviations).toEqual([])
  expect((await bench.outcome(run)).exit.code).toBe(5)
  await bench.controller.remove(run.run_id)
  await bench.controller.remove(waiting.run_id)
  await old.close()
  expect(existsSync(bench.paths(run.run_id).dir)).toBe(false)
  expect(runtimeFiles().filter((name) => name.includes(run.run_id))).toEqual([])
})

test("a sandbox killed with its file server leaves nothing once it is removed", async () => {
  const run = await bench.up(sandboxed("sleep 100"))
  process.kill(initOf(run.run_id), "SIGKILL")
  expect((await bench.outcome(run)).exit.code).toBe(137)
  await bench.controller.remove(run.run_id)
  expect(runtimeFiles().filter((name) => name.includes(run.run_id))).toEqual([])
  expect(cgroupsOf(run.run_id)).toEqual([])
  expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain(run.run_id)
})

test("a create that fails says so in words for the tenant, and leaves nothing", async () => {
  const run = sandboxed("", { command: ["nonesuch"] })
  await bench.controller.prepare(run, never)
  await expect(bench.controller.start(run)).rejects.toMatchObject({ reason: { code: "command_not_found" }, exitCode: 127 })
  await bench.controller.remove(run.run_id)
  expect(runtimeFiles().filter((name) => name.includes(run.run_id))).toEqual([])
  expect(cgroupsOf(run.run_id)).toEqual([])
})

test("what it cannot have is refused by name", async () => {
  await expect(bench.controller.prepare(sandboxed("true", { network: { egress: "open" } }), never)).rejects.toMatchObject({
    reason: { code: "network_unavailable" },
  })
  const run = await bench.up(sandboxed("sleep 100"))
  await expect(bench.controller.setNetwork(run.run_id, { egress: "open" })).rejects.toMatchObject({
    reason: { code: "network_unavailable" },
    retryable: false,
  })
  const { network, deviations } = await bench.controller.isolation(run.run_id)
  expect([network.mode, network.interfaces, deviations]).toEqual(["loopback", ["lo"], []])
  await bench.controller.setNetwork(run.run_id, { egress: "none" })
  const small = sandboxed("true", { resources: { memory_bytes: 6 * MIB } })
  await bench.controller.prepare(small, never)
  await expect(bench.controller.start(small)).rejects.toMatchObject({ reason: { code: "start_failed" } })
  await bench.controller.remove(small.run_id)
  expect(cgroupsOf(small.run_id)).toEqual([])
})

function cgroupsOf(runId: string): string[] {
  const { all } = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  return all.map((mount) => join(mount, "berth", runId)).filter((path) => existsSync(path))
}
