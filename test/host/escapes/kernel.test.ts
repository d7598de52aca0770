/**
 * The doors from a container into the kernel that all share. Each is tried from inside; then by the container's root without
 * the system call filter and with every capability, where only the namespaces are left; then on the host, where it opens.
 *
 * Kept elsewhere: every number of every entry point (filter.test.ts), set-uid programs, file capabilities and device nodes of
 * an image (image-corpus.test.ts), packets, addresses and the metadata service (network*.test.ts), inodes (disks.test.ts,
 * runtime-disk.test.ts), memory (runtime.test.ts), what is counted for a user (identity.test.ts).
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import type { Assignment } from "../../../schema/protocol.ts"
import { MASKED_PATHS } from "../../../node-bridge/oci/hardened.ts"
import { answersIn, escapeProbe } from "../../support/escape-probe.ts"
import type { Answers, EscapeProbe } from "../../support/escape-probe.ts"
import { openHostBench } from "../../support/host-bench.ts"
import type { HostBench } from "../../support/host-bench.ts"

let bench: HostBench
let probe: EscapeProbe
let run: Assignment

beforeAll(async () => {
  bench = await openHostBench()
  probe = escapeProbe(bench)
  run = await bench.up(bench.shell("mkdir /tmp/work; sleep 100"))
})
afterAll(async () => {
  await bench.close()
  rmSync(probe.dir, { recursive: true })
})

/** What the host's root is told, where none of our fences is, first; it shows that the attempt is a real one. */
async function onHostAndInside(...words: string[]): Promise<{ readonly host: Answers; readonly inside: Answers }> {
  return { host: answersIn(await probe.unfenced(...words)), inside: answersIn(await probe.inside(run, ...words)) }
}
const all = (names: readonly string[], answer: string): Answers => Object.fromEntries(names.map((name) => [name, answer]))

/** Refused from inside, and past the filter as well: two fences, either of which holds alone. */
const REFUSED_TWICE = {
  bpf: ["EPERM", "EPERM"],
  block_device: ["EPERM", "EPERM"],
  character_device: ["EPERM", "EPERM"],
  kernel_log: ["EPERM", "EPERM"],
  open_by_handle: ["EPERM", "EOPNOTSUPP"],
  packet_socket: ["EAFNOSUPPORT", "EPERM"],
  perf: ["EPERM", "EACCES"],
  priority: ["EACCES", "EACCES"],
  raw_socket: ["EPERM", "EPERM"],
  real_time: ["EPERM", "EPERM"],
  unshare_user: ["EPERM", "ENOSPC"],
  userfaultfd: ["EPERM", "EPERM"],
} as const
/** Refused by filter and capabilities alone; past them it is had, of the container's own namespaces and nobody else's. */
const REFUSED_ONCE = {
  add_key: "EPERM",
  bind: "EPERM",
  chroot: "EPERM",
  fsopen: "EPERM",
  hostname: "EPERM",
  io_uring: "ENOSYS",
  mount: "EPERM",
  netfilter_socket: "EPROTONOSUPPORT",
  pivot_root: "EPERM",
  setns: "EPERM",
  unshare_mount: "EPERM",
} as const
const ATTEMPTS = [...Object.keys(REFUSED_TWICE), ...Object.keys(REFUSED_ONCE)]

test("what asks the kernel for more than a container has is refused, most of it twice", async () => {
  mkdirSync(join(probe.dir, "work"))
  const [mounts, hostname] = [readFileSync("/proc/self/mountinfo", "utf8"), readFileSync("/proc/sys/kernel/hostname", "utf8")]
  expect(answersIn(await probe.unfenced("kernel", join(probe.dir, "work")))).toEqual(all(ATTEMPTS, "ok"))
  expect(answersIn(await probe.inside(run, "kernel", "/tmp"))).toEqual({
    ...Object.fromEntries(Object.entries(REFUSED_TWICE).map(([name, [inside]]) => [name, inside])),
    ...REFUSED_ONCE,
  })
  expect(answersIn(await probe.pastTheFilter(run, "kernel", "/tmp/work"))).toEqual({
    ...Object.fromEntries(Object.entries(REFUSED_TWICE).map(([name, [, past]]) => [name, past])),
    ...all(Object.keys(REFUSED_ONCE), "ok"),
  })
  expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(mounts)
  expect(readFileSync("/proc/sys/kernel/hostname", "utf8")).toBe(hostname)
})

test("no file system of the kernel's can be mounted; past the filter, none of the host's", async () => {
  const work = join(probe.dir, "file-systems")
  mkdirSync(work)
  const kinds = ["proc", "sysfs", "debugfs", "tracefs", "cgroup2", "devtmpfs", "binfmt_misc"]
  const host = answersIn(await probe.unfenced("mount", work, ...kinds))
  const here = kinds.filter((kind) => host[kind] === "ok")
  expect(here).toEqual(expect.arrayContaining(["proc", "sysfs", "cgroup2"]))
  expect(answersIn(await probe.inside(run, "mount", "/tmp", ...here))).toEqual(all(here, "EPERM"))
  // Its namespaces have these of their own; they are told from the host's by whose they are.
  const own = ["proc", "cgroup2", "binfmt_misc"]
  const past = answersIn(await probe.pastTheFilter(run, "mount", "/tmp/work", ...here))
  expect(here.filter((kind) => past[kind] === "ok" && !own.includes(kind))).toEqual([])
})

test("what tells of the machine and its other users is empty or absent inside", async () => {
  // Reading /proc/kmsg would take lines away from the host.
  const paths = MASKED_PATHS.filter((path) => path !== "/proc/kmsg" && existsSync(path))
  const { host, inside } = await onHostAndInside("read", ...paths)
  const told = paths.filter((path) => host[path] === "ok")
  expect(told).toEqual(expect.arrayContaining(["/proc/kallsyms", "/proc/interrupts", "/proc/slabinfo", "/sys/kernel"]))
  expect(told.filter((path) => inside[path] === "ok")).toEqual([])
  const past = answersIn(await probe.pastTheFilter(run, "read", ...told))
  expect(told.filter((path) => past[path] === "ok")).toEqual([])
  const closed = ["/proc/kmsg", "/dev/kmsg", "/proc/kcore", "/dev/mem", "/dev/port", "/dev/vda"]
  expect(Object.values(answersIn(await probe.inside(run, "read", ...closed))).filter((answer) => answer === "ok")).toEqual([])
})

test("no file of the kernel's can be written: settings, core_pattern, interrupts, devices, cgroups", async () => {
  const named = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/hostname",
    "/sys/kernel/profiling",
    "/dev/kmsg",
  ]
  const { host, inside } = await onHostAndInside("write", ...named)
  expect(host).toEqual(all(named, "ok"))
  expect(Object.values(inside).every((answer) => /^(EACCES|EROFS|ENOENT)$/.test(answer))).toBe(true)

  const everywhere = ["/proc/sys", "/proc/irq", "/proc/fs", "/proc/bus", "/sys"]
  for (const text of [
    await probe.inside(run, "writable", ...everywhere),
    await probe.pastTheFilter(run, "writable", ...everywhere),
  ]) {
    const [, tried = ""] = /^tried (\d+)$/.exec(text.trim()) ?? expect.fail(`It may write ${text}`)
    expect(Number(tried)).toBeGreaterThan(1000)
  }
  // /proc itself, beside what belongs to the process: what is masked there is /dev/null.
  const top = readdirSync("/proc").filter((name) => !/^(\d+|self|thread-self|mounts|sys|irq|fs|bus)$/.test(name))
  const unmasked = top.map((name) => `/proc/${name}`).filter((path) => !MASKED_PATHS.some((masked) => masked === path))
  expect(unmasked.length).toBeGreaterThan(10)
  const asked = answersIn(await probe.inside(run, "write", ...unmasked))
  expect(unmasked.filter((path) => asked[path] === "ok")).toEqual([])
})

test("the nodes in /dev are the host's: who may write to them may not say who else may", async () => {
  const nodes = ["null", "zero", "full", "random", "urandom", "tty"].map((name) => `/dev/${name}`)
  const script = `for node in ${nodes.join(" ")}; do busybox chmod 666 $node && echo DONE; busybox chown 0:0 $node && echo DONE; done`
  const { text } = await bench.through(bench.shell(`${script} 2>&1`))
  expect(text.match(/not permitted/g)).toHaveLength(2 * nodes.length)
  expect(text).not.toContain("DONE")
  for (const node of nodes) expect(statSync(node).mode & 0o777).toBe(0o666)
})
