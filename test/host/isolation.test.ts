import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { Isolation } from "../../schema/isolation.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import { tableName } from "../../node-bridge/network/rules.ts"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"

let bench: HostBench
const MIB = 1024 * 1024

beforeAll(async () => {
  bench = await openHostBench()
})
afterAll(() => bench.close())

const LIMITS = { cpus: 0.5, memory_bytes: 48 * MIB, pids: 17 }

test("what the kernel enforces on a container is what the profile promises", async () => {
  const run = await bench.up(bench.shell("sleep 100", { resources: LIMITS, network: { egress: "open" } }))
  const read = Isolation.parse(await bench.controller.isolation(run.run_id))
  expect(read.deviations).toEqual([])
  expect(read.verdict).toBe("holds")
  expect(Object.values(read.namespaces).every(({ shared_with }) => shared_with !== "host")).toBe(true)
  expect(read.user.uid_map).toEqual([{ inside: 0, outside: expect.any(Number), count: 65_536 }])
  expect(read.user).toMatchObject({ runs_as_uid_inside: 0, root_is_host_root: false })
  expect(read.capabilities.effective).toEqual([
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
  ]) // prettier-ignore
  expect(read.capabilities).toMatchObject({ inheritable: [], ambient: [] })
  expect(read.no_new_privileges).toBe(true)
  expect(read.seccomp).toMatchObject({ mode: "filter", filters: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) })
  expect(read.limits).toMatchObject({
    cpus: 0.5,
    memory_bytes: LIMITS.memory_bytes,
    memory_swap_bytes: LIMITS.memory_bytes,
    pids: 17,
    processors: [expect.any(Number)],
  })
  expect(read.network).toMatchObject({ mode: "nat", interfaces: ["eth0", "lo"], egress: "open" })
  expect(read.network.rules).toContainEqual(expect.stringMatching(/^open \{ 100\.\d+\.\d+\.\d+ \}$/))
  expect(read.masked_paths).toEqual(expect.arrayContaining(["/proc/kallsyms", "/proc/interrupts", "/sys/firmware"]))
})

test("a user other than root holds no capability, and loopback is all the network there is", async () => {
  const run = await bench.up(bench.shell("sleep 100", { user: "web", read_only: true }))
  const read = await bench.controller.isolation(run.run_id)
  expect(read.deviations).toEqual([])
  expect(read.user.runs_as_uid_inside).toBe(1000)
  expect(read.capabilities).toMatchObject({ effective: [], permitted: [] })
  expect(read.network).toMatchObject({ mode: "loopback", interfaces: ["lo"], egress: "none" })
})

test("policy and rates of the network are read from the packet filter and the link, and hold", async () => {
  const network = { egress: ["203.0.113.0/24"], egress_bytes_per_second: 1_000_000, ingress_bytes_per_second: 2_000_000 }
  const run = await bench.up(bench.shell("sleep 100", { network }))
  const read = await bench.controller.isolation(run.run_id)
  expect([read.deviations, read.network]).toEqual([[], expect.objectContaining(network)])
  const address = readRecord(bench.paths(run.run_id).record)?.address ?? ""
  execFileSync("nft", [
    "add",
    "element",
    "inet",
    tableName(createHash("sha256").update(join(bench.dir, "state")).digest("hex")),
    "open",
    `{ ${address} }`,
  ])
  expect((await bench.controller.isolation(run.run_id)).deviations).toEqual(["outbound traffic is open, not 203.0.113.0/24"])
})

test("a limit that was changed behind our back is a deviation", async () => {
  const run = await bench.up(bench.shell("sleep 100", { resources: LIMITS }))
  const layout = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  const mount = layout.mounts.get(layout.version === 2 ? "unified" : "pids") ?? ""
  writeFileSync(`${mount}/berth/${run.run_id}/pids.max`, "99")
  const read = await bench.controller.isolation(run.run_id)
  expect(read.deviations).toEqual(["the process limit is 99, not 17"])
  expect(read.verdict).toBe("deviates")
})

test("a process that left its cgroup is a deviation", async () => {
  const run = await bench.up(bench.shell("sleep 100"))
  const pid = readRecord(bench.paths(run.run_id).record)?.init?.pid ?? 0
  const layout = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  const mount = layout.mounts.get(layout.version === 2 ? "unified" : "memory") ?? ""
  writeFileSync(`${mount}/cgroup.procs`, String(pid))
  expect((await bench.controller.isolation(run.run_id)).deviations).toContain("the process is not in its own cgroup")
  process.kill(pid, "SIGKILL")
})

test("reading a container's filter does not disturb it", async () => {
  const run = await bench.up(bench.shell("i=0; while [ $i -lt 300 ]; do usleep 1000; i=$((i+1)); done; echo all $i; exit 4"))
  for (let i = 0; i < 20; i++) expect((await bench.controller.isolation(run.run_id)).seccomp.sha256).not.toBeNull()
  expect((await bench.outcome(run)).exit).toMatchObject({ code: 4, log_tail: ["all 300"] })
})

test("a paused container is read without its filter, and an ended one not at all", async () => {
  const run = await bench.up(bench.shell("sleep 100"))
  await bench.controller.pause(run.run_id)
  expect((await bench.controller.isolation(run.run_id)).seccomp).toMatchObject({ mode: "filter", sha256: null })
  await bench.controller.signal(run.run_id, "SIGKILL")
  await bench.outcome(run)
  await expect(bench.controller.isolation(run.run_id)).rejects.toMatchObject({ reason: { code: "not_running" } })
})

test("what escapes begin with is refused inside", async () => {
  const script = [
    "unshare -U true 2>&1", "unshare -m true 2>&1", "mount -t tmpfs none /tmp 2>&1", "cat /proc/kallsyms | head -1",
    "echo 1 > /proc/sys/kernel/hostname", "ls /sys/class/net", "cat /proc/sys/user/max_user_namespaces",
  ] // prettier-ignore
  const { text } = await bench.through(bench.shell(`${script.join("; ")}; echo end`))
  expect(text.match(/Operation not permitted|permission denied/g)?.length).toBeGreaterThanOrEqual(3)
  expect(text).toMatch(/Read-only file system/)
  expect(text).toMatch(/\nlo\n0\nend$/)
})

test("a reading in a container's first instant waits for its own program", async () => {
  const verdicts: string[][] = []
  for (let i = 0; i < 15; i++) {
    const run = bench.shell("sleep 100")
    await bench.controller.prepare(run, new AbortController().signal)
    await bench.controller.start(run)
    verdicts.push((await bench.controller.isolation(run.run_id)).deviations)
    await bench.controller.remove(run.run_id)
  }
  expect(verdicts.flat()).toEqual([])
})
