/** Fences taken away from outside, on live containers: each is seen, told once, and named. */
import { execFileSync, spawn } from "node:child_process"
import { readFileSync, readlinkSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest"
import type { Notice } from "../../schema/protocol.ts"
import { NamespaceCensus, namespacesOf } from "../../node-bridge/isolation/census.ts"
import { parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import { readRecord, writeRecord } from "../../node-bridge/runtime/host-record.ts"
import { identify } from "../../node-bridge/runtime/process-identity.ts"
import type { RunId } from "../../schema/ids.ts"
import { anId } from "../support/assignments.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { waitFor } from "../support/wait-for.ts"

let bench: HostBench
const notices: Omit<Notice, "id">[] = []
const layout = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))

beforeAll(async () => {
  bench = await openHostBench({ isolationWatch: { everyMs: 100, firstLookMs: 50 } })
  bench.controller.listen({ notice: (notice) => void notices.push(notice), facts: () => {}, condition: () => {} })
})
afterAll(() => bench.close())

interface Live {
  readonly runId: RunId
  readonly pid: number
  /** Runs a program in the container's mount and pid namespaces, with every privilege of the host's root. */
  readonly outside: (...words: string[]) => string
  /** The same under the user id of the container's root, which alone can own what is in its `/dev`. */
  readonly asItsRoot: (...words: string[]) => string
  readonly cgroup: (controller: string, file: string) => string
}

const mountOf = (controller: string) => layout.mounts.get(layout.version === 2 ? "unified" : controller) ?? ""

async function live(): Promise<Live> {
  const { run_id } = await bench.up(bench.shell("sleep 100", { resources: { pids: 20 } }))
  onTestFinished(() => bench.controller.remove(run_id))
  const pid = readRecord(bench.paths(run_id).record)?.init?.pid ?? 0
  const root = String(readRecord(bench.paths(run_id).record)?.host_base)
  const enter = ["-t", String(pid), "-m", "-p"]
  const capabilities = ["mknod", "sys_admin", "sys_ptrace", "sys_chroot"].map((name) => `+${name}`).join(",")
  const become = ["--reuid", root, "--regid", root, "--clear-groups", "--inh-caps", capabilities, "--ambient-caps", capabilities]
  return {
    runId: run_id,
    pid,
    outside: (...words) => execFileSync("nsenter", [...enter, ...words], { encoding: "utf8" }),
    asItsRoot: (...words) => execFileSync("setpriv", [...become, "nsenter", ...enter, ...words], { encoding: "utf8" }),
    cgroup: (controller, file) => join(mountOf(controller), "berth", run_id, file),
  }
}

const memoryFile = layout.version === 2 ? "memory.max" : "memory.limit_in_bytes"
const told = (runId: RunId) => notices.filter((notice) => notice.run_id === runId)

test.each<[string, (run: Live) => void, string]>([
  ["more processes", ({ cgroup }) => writeFileSync(cgroup("pids", "pids.max"), "400"), "the process limit is 400, not 20"],
  ["no limit of processes", ({ cgroup }) => writeFileSync(cgroup("pids", "pids.max"), "max"), "the process limit is off, not 20"],
  ["less memory", ({ cgroup }) => writeFileSync(cgroup("memory", memoryFile), "67108864"), "the memory limit is 67108864, not"],
  ["more processors", ({ cgroup }) => writeFileSync(cgroup("cpuset", "cpuset.cpus"), `0-${cpus().length - 1}`), "may be used"],
  [
    "another cgroup",
    ({ cgroup, pid }) => writeFileSync(join(cgroup("pids", ".."), "../cgroup.procs"), String(pid)),
    "the process is not in its own cgroup",
  ],
  [
    "a mount too many",
    ({ outside }) => outside("busybox", "mount", "-t", "tmpfs", "none", "/home"),
    "/home is mounted and should not be",
  ],
  ["a writable /sys", ({ outside }) => outside("busybox", "mount", "-o", "remount,bind,rw", "/sys"), "/sys is not mounted ro"],
  ["an uncovered path", ({ outside }) => outside("busybox", "umount", "/proc/kallsyms"), "/proc/kallsyms is not masked"],
  ["a writable path", ({ outside }) => outside("busybox", "umount", "/proc/sys"), "/proc/sys is not read-only"],
  [
    "a device",
    ({ asItsRoot }) => asItsRoot("busybox", "mknod", "/dev/disk0", "b", "254", "0"),
    "/dev/disk0 is a device and was not granted",
  ],
])("%s is noticed without being asked, and named", async (_what, take, sentence) => {
  const run = await live()
  expect((await bench.controller.isolation(run.runId)).deviations).toEqual([])
  take(run)
  await waitFor("the notice", () => told(run.runId).length > 0, 5_000)
  const [notice] = told(run.runId)
  expect(notice).toMatchObject({ kind: "isolation_deviated", reason: { code: "isolation_deviated" } })
  expect(notice?.reason.message).toContain(sentence)
  const { deviations, verdict } = await bench.controller.isolation(run.runId)
  expect([verdict, deviations.join("; ")]).toEqual(["deviates", expect.stringContaining(sentence)])
  process.kill(run.pid, "SIGKILL") // one that left its cgroup is not killed with it
})

test("a program that has a runtime's name is not waited for", async () => {
  const script = "cp /bin/busybox /tmp/crun; ln -s crun /tmp/sleep; exec /tmp/sleep 100"
  const { run_id } = await bench.up(bench.shell(script))
  onTestFinished(() => bench.controller.remove(run_id))
  const { record: file } = bench.paths(run_id)
  const record = readRecord(file)
  await waitFor("the program", () => readlinkSync(`/proc/${record?.init?.pid}/exe`) === "/tmp/crun")
  if (record) writeRecord(file, { ...record, started_at_ms: Date.now() - 60_000 })
  const began = performance.now()
  expect((await bench.controller.isolation(run_id)).deviations).toEqual([])
  expect(performance.now() - began).toBeLessThan(900)
})

test("what deviates is told once, until something else does", async () => {
  const { runId, cgroup } = await live()
  const set = (pids: string) => writeFileSync(cgroup("pids", "pids.max"), pids)
  const next = async (count: number) => {
    await waitFor(`${count} notices`, () => told(runId).length >= count, 5_000)
    expect(told(runId)).toHaveLength(count)
  }
  set("21")
  await next(1)
  set("22")
  await next(2)
  set("21") // known
  await waitFor("the old state again", async () => (await bench.controller.isolation(runId)).limits.pids === 21)
  set("23")
  await next(3)
})

test("a bridge that takes the container over looks anew", async () => {
  const { runId, cgroup } = await live()
  writeFileSync(cgroup("pids", "pids.max"), "21")
  const after: Omit<Notice, "id">[] = []
  const next = await bench.another()
  next.listen({ notice: (notice) => void after.push(notice), facts: () => {}, condition: () => {} })
  await waitFor("the next bridge's notice", () => after.some((notice) => notice.run_id === runId), 5_000)
  const old = bench.controller
  bench.controller = next
  await old.close()
})

test("a process of the host's in the container's cgroup is seen", async () => {
  const { runId, cgroup } = await live()
  const stranger = spawn("sleep", ["100"])
  onTestFinished(() => void stranger.kill("SIGKILL"))
  writeFileSync(cgroup("pids", "cgroup.procs"), String(stranger.pid))
  expect((await bench.controller.isolation(runId)).deviations).toEqual(["a process in its cgroup is in another user namespace"])
})

test("the tenant's containers share its user namespace, and nothing else", async () => {
  const [one, two] = [bench.shell("sleep 100"), bench.shell("sleep 100")]
  await bench.up(one)
  await bench.up({ ...two, tenant_id: one.tenant_id })
  await bench.controller.isolation(two.run_id) // looked at, so known
  const { namespaces, deviations } = await bench.controller.isolation(one.run_id)
  expect(deviations).toEqual([])
  expect(Object.fromEntries(Object.entries(namespaces).map(([name, each]) => [name, each.shared_with]))).toEqual({
    user: "tenant", pid: "nobody", network: "nobody", ipc: "nobody", uts: "nobody", mount: "nobody", cgroup: "nobody",
  }) // prettier-ignore
})

function memberOf(pid: number) {
  const init = identify(pid)
  if (init === null) throw new Error("it ended")
  return { runId: anId("run"), tenantId: anId("ten"), init }
}

test("a namespace shared with another tenant is seen as such", async () => {
  const census = new NamespaceCensus()
  const first = spawn("unshare", ["--ipc", "sleep", "100"])
  onTestFinished(() => void first.kill("SIGKILL"))
  const pid = first.pid ?? 0
  await waitFor("its namespace", () => namespacesOf(pid).ipc !== census.host.ipc)
  const second = spawn("nsenter", [`--ipc=/proc/${pid}/ns/ipc`, "sleep", "100"])
  onTestFinished(() => void second.kill("SIGKILL"))
  const other = second.pid ?? 0
  const { ipc } = namespacesOf(pid)
  await waitFor("the second in it", () => namespacesOf(other).ipc === ipc)
  const [a, b] = [memberOf(pid), memberOf(other)]
  census.saw(a, namespacesOf(pid))
  census.saw(b, namespacesOf(other))
  expect(census.sharers(a, "ipc", ipc)).toEqual({ tenant: false, others: true })
  expect(census.sharers({ ...a, tenantId: b.tenantId }, "ipc", ipc)).toEqual({ tenant: true, others: false })
  second.kill("SIGKILL")
  await waitFor("its end", () => identify(other) === null)
  expect(census.sharers(a, "ipc", ipc)).toEqual({ tenant: false, others: false })
})
