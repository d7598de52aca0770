/**
 * Two tenants on one host, and the host: what one can do to the other's processes, memory, files and terminal, and to what the
 * bridge keeps for it. Each is tried from inside, then with all fences but the tenant's own user id taken away, then by the
 * host's root, who can.
 *
 * Kept elsewhere: packets, addresses, names and the metadata service (network*.test.ts), disks and inodes (disks.test.ts,
 * runtime-disk.test.ts), memory (runtime.test.ts), what is counted for a user (identity.test.ts), links in a device's mounts
 * (devices.test.ts).
 */
import { execFileSync, spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"
import { chmodSync, cpSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { parseCgroupLayout } from "../../../node-bridge/runtime/cgroup-layout.ts"
import { readRecord } from "../../../node-bridge/runtime/host-record.ts"
import type { Assignment } from "../../../schema/protocol.ts"
import { busyboxStore } from "../../support/busybox-image.ts"
import { answersIn, escapeProbe } from "../../support/escape-probe.ts"
import type { EscapeProbe } from "../../support/escape-probe.ts"
import { never, openHostBench } from "../../support/host-bench.ts"
import type { HostBench } from "../../support/host-bench.ts"
import { waitFor } from "../../support/wait-for.ts"

let bench: HostBench
let probe: EscapeProbe
/** Two tenants' containers, and a process of the host's. */
let mallory: Assignment
let alice: Assignment
let host: ChildProcess

const SMALL = { cpus: 1, memory_bytes: 64 * 1024 * 1024 }

beforeAll(async () => {
  bench = await openHostBench()
  chmodSync(bench.dir, 0o755) // so that what the bridge makes in it is kept by its own modes
  probe = escapeProbe(bench)
  mallory = await bench.up(bench.shell("sleep 100"))
  alice = await bench.up(
    bench.shell("echo private > /private; chmod 600 /private; sleep 100", { env: { SECRET: "alice's" }, tty: true }),
  )
  host = spawn("sleep", ["100"])
  await once(host, "spawn")
})
afterAll(async () => {
  host.kill("SIGKILL")
  await bench.close()
  rmSync(probe.dir, { recursive: true })
})

function cgroupOf(run: Assignment): string {
  const layout = parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8"))
  return join(layout.mounts.get(layout.version === 2 ? "unified" : "pids") ?? "", "berth", run.run_id)
}
const terminalsOf = (pid: number) => statSync(`/proc/${pid}/root/dev/pts`).dev
const bystanders = () => [probe.pidOf(alice), host.pid ?? 0]
async function untouched(): Promise<void> {
  expect(await bench.controller.inspect(alice.run_id)).toMatchObject({ kind: "running" })
  expect((await bench.controller.isolation(alice.run_id)).deviations).toEqual([])
  expect([host.exitCode, host.signalCode]).toEqual([null, null])
}

test("another's process is not there; by its number on the host it may not be touched, which the host's root may", async () => {
  for (const pid of bystanders()) {
    const words = ["process", String(pid)]
    expect(answersIn(execFileSync(join(probe.dir, "escape"), words, { encoding: "utf8" }))).toEqual({
      signal: "ok",
      ptrace: "ok",
      memory: "ok",
      namespace: "ok",
      root: "ok",
      environment: "ok",
    })
    const absent = { namespace: "ENOENT", root: "ENOENT", environment: "ENOENT" }
    expect(answersIn(await probe.inside(mallory, ...words))).toEqual({
      ...absent,
      signal: "ESRCH",
      ptrace: "EPERM",
      memory: "EPERM",
    })
    expect(answersIn(await probe.pastTheFilter(mallory, ...words))).toEqual({
      ...absent,
      signal: "ESRCH",
      ptrace: "ESRCH",
      memory: "ESRCH",
    })
    expect(answersIn(await probe.withItsUserAlone(mallory, ...words))).toEqual({
      signal: "EPERM",
      ptrace: "EPERM",
      memory: "EPERM",
      namespace: "EACCES",
      root: "EACCES",
      environment: "EACCES",
    })
  }
  await untouched()
})

test("a signal to all processes reaches the container's own alone", async () => {
  const { outcome, text } = await bench.through(
    bench.shell("sleep 50 & kill -9 -1; wait $! 2>/dev/null; echo its own: $?; ls -d /proc/[0-9]* | head -n 9"),
  )
  expect(outcome.exit.code).toBe(0)
  const [own, ...processes] = text.split("\n")
  expect(own).toBe("its own: 137")
  expect(processes).toContain("/proc/1")
  expect(processes.length).toBeLessThanOrEqual(4)
  await untouched()
})

test("a fork bomb and a taker of descriptors end at their own limits, while the neighbour starts what it likes", async () => {
  const forks = await bench.up(bench.shell("exec escape forks", { resources: { ...SMALL, pids: 32 } }))
  const descriptors = await bench.up(
    bench.shell("exec escape descriptors", { resources: { ...SMALL, pids: 32, open_files: 64 } }),
  )
  const said = (run: Assignment) => waitFor("its word", async () => (await bench.log(run)).at(0)?.text)
  expect(await said(forks)).toBe("EAGAIN")
  expect(await said(descriptors)).toBe("64 EMFILE")
  const cgroup = readFileSync(join(cgroupOf(forks), "pids.current"), "utf8")
  expect(Number(cgroup)).toBeLessThanOrEqual(32)
  // Neither limit is the host's or another's: with more allowed, more is had beside them.
  const more = await bench.up({
    ...bench.shell("exec escape descriptors", { resources: { ...SMALL, pids: 32, open_files: 512 } }),
    tenant_id: alice.tenant_id,
  })
  expect(await said(more)).toBe("512 EMFILE")
  const many = bench.shell("for i in $(seq 60); do sleep 5 & done; echo all", { resources: { ...SMALL, pids: 128 } })
  const { text } = await bench.through({ ...many, tenant_id: alice.tenant_id })
  expect(text).toBe("all")
  for (const run of [forks, descriptors, more]) await bench.controller.remove(run.run_id)
  await untouched()
})

test("another's cgroup is out of sight, and closed to the user behind it", async () => {
  const files = ["pids.max", "cgroup.procs"].map((name) => join(cgroupOf(alice), name))
  expect(Object.values(answersIn(execFileSync(join(probe.dir, "escape"), ["write", ...files], { encoding: "utf8" })))).toEqual([
    "ok",
    "ok",
  ])
  expect(Object.values(answersIn(await probe.inside(mallory, "write", ...files)))).toEqual(["ENOENT", "ENOENT"])
  expect(Object.values(answersIn(await probe.withItsUserAlone(mallory, "write", ...files)))).toEqual(["EACCES", "EACCES"])
  const { text } = await bench.through(bench.shell("cat /proc/self/cgroup; ls -R /sys/fs/cgroup | grep -c run_"))
  expect(text).not.toContain(alice.run_id)
  expect(text).toMatch(/\n0$/)
})

test("logs, bundles, records and sockets are the host's root's: no user of a tenant's gets there, not to its own either", async () => {
  const { config, record, log, bundle, logs, ctl, pidFile } = bench.paths(alice.run_id)
  const files = [config, record, log, pidFile, bundle, logs, join(bundle, "attach"), join(bench.dir, "state")]
  const readable = answersIn(
    execFileSync(join(probe.dir, "escape"), ["read", config, record, pidFile, bundle], { encoding: "utf8" }),
  )
  expect(Object.values(readable)).toEqual(["ok", "ok", "ok", "ok"])
  for (const tenant of [mallory, alice]) {
    expect(new Set(Object.values(answersIn(await probe.withItsUserAlone(tenant, "read", ...files))))).toEqual(new Set(["EACCES"]))
    expect(new Set(Object.values(answersIn(await probe.withItsUserAlone(tenant, "write", ...files, ctl))))).not.toContain("ok")
    expect(await probe.withItsUserAlone(tenant, "writable", bench.dir, join(bundle, "..", ".."))).toMatch(/^tried \d+\n$/)
  }
})

test("the files that the bridge puts into /etc cannot be changed, moved or replaced by a link", async () => {
  const { etc } = bench.paths(mallory.run_id)
  const files = ["hosts", "hostname", "resolv.conf"]
  const before = files.map((name) => readFileSync(join(etc, name), "utf8"))
  const script = files
    .map((name) => `/etc/${name}`)
    .map(
      (path) => `(echo evil > ${path}) || (busybox rm -f ${path}) || (busybox mv ${path} /tmp/x) || (busybox ln -sf /x ${path})`,
    )
    .map((attempt) => `if ${attempt}; then echo DONE; else echo refused; fi`)
  const child = { ...bench.shell(`${script.join("\n")}`), tenant_id: mallory.tenant_id }
  const { text } = await bench.through(child)
  expect(text.match(/^refused$/gm)).toHaveLength(3)
  expect(text).not.toContain("DONE")
  const past = answersIn(await probe.pastTheFilter(mallory, "write", ...files.map((name) => `/etc/${name}`)))
  expect(Object.values(past).filter((answer) => answer === "ok")).toEqual([])
  expect(files.map((name) => readFileSync(join(etc, name), "utf8"))).toEqual(before)
  const own = execFileSync(join(probe.dir, "escape"), ["write", ...files.map((name) => join(etc, name))], { encoding: "utf8" })
  expect(Object.values(answersIn(own))).toEqual(["ok", "ok", "ok"])
})

test("another's keys and shared memory are found by its own user and in its own namespaces alone", async () => {
  const key = (await probe.pastTheFilter(alice, "keep")).trim()
  expect(Number(key)).toBeGreaterThan(0)
  const look = ["find", key]
  expect(answersIn(await probe.pastTheFilter(alice, ...look))).toEqual({ key: "ok", memory: "ok", file: "ok" })
  expect(answersIn(await probe.inside(alice, ...look))).toEqual({ key: "EPERM", memory: "ENOENT", file: "ENOENT" })
  expect(answersIn(await probe.inside(mallory, ...look))).toEqual({ key: "EPERM", memory: "ENOENT", file: "ENOENT" })
  expect(answersIn(await probe.pastTheFilter(mallory, ...look))).toEqual({ key: "EACCES", memory: "ENOENT", file: "ENOENT" })
})

test("what is typed into a container's terminal is read in that container alone", async () => {
  const typing = bench.shell("escape type 'typed\n'; head -n 1; tty", { tty: true })
  const { text } = await bench.through(typing)
  expect(text).toContain("typed")
  expect(new Set([statSync("/dev/pts").dev, terminalsOf(probe.pidOf(alice)), terminalsOf(probe.pidOf(mallory))]).size).toBe(3)
  expect((await bench.log(alice)).map((entry) => entry.text).join("")).not.toContain("typed")
})

/** The bench's image with changes, run by a bridge of its own. */
async function ofImage<T>(name: string, change: (root: string) => void, use: (bench: HostBench) => Promise<T>): Promise<T> {
  const root = join(bench.dir, name)
  cpSync(join(bench.dir, "image"), root, { recursive: true, verbatimSymlinks: true })
  change(root)
  const other = await openHostBench({ images: busyboxStore(root) })
  return use(other).finally(() => other.close())
}

const refusal = (name: string, change: (root: string) => void, user: string) =>
  ofImage(name, change, async (other) => {
    const run = other.shell("true", { user })
    const error = await other.controller.prepare(run, never).catch((thrown: unknown) => thrown)
    return (error as { reason?: { code?: string } }).reason?.code
  })
const replaced = (make: (path: string) => void) => (root: string) => {
  rmSync(join(root, "etc/passwd"))
  make(join(root, "etc/passwd"))
}

describe("an image", () => {
  test("whose passwd and group lead out of it, or never end, gives nobody the host's users", async () => {
    const secret = join(probe.dir, "passwd")
    writeFileSync(secret, "evil:x:0:0::/:/bin/sh\nfar:x:70000:70000::/:/bin/sh\n")
    const link = replaced((path) => symlinkSync(secret, path))
    expect(await refusal("passwd-link", link, "evil")).toBe("user_not_found")
    // As whoever joins paths would read it.
    expect(readFileSync(join(bench.dir, "passwd-link", "etc/passwd"), "utf8")).toContain("evil")
    const fifo = replaced((path) => void execFileSync("mkfifo", [path]))
    expect(await refusal("passwd-fifo", fifo, "evil")).toBe("user_not_found")
    const endless = replaced((path) => symlinkSync("passwd", path))
    expect(await refusal("passwd-loop", endless, "evil")).toBe("user_not_found")
    const far = replaced((path) => cpSync(secret, path))
    expect(await refusal("passwd-far", far, "far")).toBe("user_out_of_range")
    const least = replaced((path) => writeFileSync(path, "minus:x:-1:-1::/:\nwrap:x:4294967296:0::/:\n"))
    expect(await refusal("passwd-minus", least, "minus")).toBe("user_not_found")
    expect(await refusal("passwd-wrap", least, "wrap")).toBe("user_out_of_range")
  })

  test("whose hosts and resolv.conf are links has them replaced inside itself, never where they lead on the host", async () => {
    const canary = join(probe.dir, "canary")
    writeFileSync(canary, "the host's\n")
    const links = (root: string) => {
      symlinkSync(canary, join(root, "etc/hosts"))
      symlinkSync(`../../../../..${canary}`, join(root, "etc/resolv.conf"))
      symlinkSync("/proc/1/root/etc/hostname", join(root, "etc/hostname"))
    }
    const mounts = readFileSync("/proc/self/mountinfo", "utf8")
    const ended = await ofImage("etc-links", links, async (other) => {
      const run = other.shell(`cat ${canary} /etc/hosts; echo evil > ${canary}`)
      return other.through(run).then(
        ({ text }) => text,
        (error: unknown) => String(error),
      )
    })
    expect(ended).not.toContain("the host's")
    expect(readFileSync(canary, "utf8")).toBe("the host's\n")
    expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(mounts)
    expect(readFileSync(join(bench.dir, "etc-links", "etc/hosts"), "utf8")).toBe("the host's\n")
  })
})

test("text that looks like options is text: as command, argument, folder, environment and label", async () => {
  writeFileSync(join(bench.dir, "image", "bin", "--root="), '#!/bin/sh\necho "$0 $*"; pwd; env | grep -c EVIL\nsleep 100\n', {
    mode: 0o755,
  })
  const run = bench.shell("", {
    command: ["--root=", "--no-new-keyring", "--", "$(touch /evil)", "-u"],
    workdir: "/--cwd=",
    env: { EVIL: "--cap-add=ALL", LD_PRELOAD: "/tmp/evil.so", NOTIFY_SOCKET: "/tmp/evil", _LIBCRUN_EVIL: "\n--x" },
    labels: { "run.oci.hooks.stdin": "--privileged" },
  })
  await bench.up(run)
  const text = await waitFor("its word", async () => {
    const lines = (await bench.log(run)).map((entry) => entry.text)
    return lines.length === 3 && lines
  })
  expect(text).toEqual(["/bin/--root= --no-new-keyring -- $(touch /evil) -u", "/--cwd=", "2"])
  const monitor = readRecord(bench.paths(run.run_id).record)?.monitor?.pid ?? expect.fail("it has no monitor")
  for (const file of ["cmdline", "environ"]) {
    expect(readFileSync(`/proc/${monitor}/${file}`, "latin1")).not.toMatch(/EVIL|evil|cap-add|privileged/)
  }
  const config = JSON.parse(readFileSync(bench.paths(run.run_id).config, "utf8")) as { annotations?: object; hooks?: object }
  expect(Object.keys(config.annotations ?? {})).toEqual(["run.oci.seccomp_bpf_data"])
  expect(config.hooks).toBeUndefined()
  expect((await bench.controller.isolation(run.run_id)).deviations).toEqual([])
})
