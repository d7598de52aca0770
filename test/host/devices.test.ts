/**
 * Real devices in real containers: /dev/kvm, /dev/fuse and /dev/net/tun under names of the test's own, described by CDI
 * files. One bridge for all of them; each device is one test's.
 */
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, readdirSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { readRecord, writeRecord } from "../../node-bridge/runtime/host-record.ts"
import type { Assignment, Notice } from "../../schema/protocol.ts"
import { describeDevices, makeNodeOf } from "../support/devices.ts"
import type { RealDevice } from "../support/devices.ts"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { temporaryFolder } from "../support/images.ts"
import { buildProbe } from "../support/probes.ts"
import { waitFor } from "../support/wait-for.ts"

const dir = temporaryFolder("devices")
const cdi = [join(dir, "etc"), join(dir, "run")] as const
const nodes = join(dir, "nodes")
const hook = join(dir, "hook")
const brokenHook = join(dir, "broken-hook")
const scrub = join(dir, "scrub")
const KIND = "berth.test/real"
const named = (name: string) => `${KIND}=${name}`

let bench: HostBench
let notices: Omit<Notice, "id">[] = []
let factsTold = 0

const edits = (device: RealDevice, name: string, path = `/dev/${device}`) => ({
  name,
  containerEdits: { deviceNodes: [{ path, hostPath: join(nodes, name) }] },
})

beforeAll(async () => {
  for (const path of cdi) mkdirSync(path)
  const all = [
    ["kvm", "kvm"],
    ["kvm", "closed"],
    ["fuse", "fuse"],
    ["tun", "tun"],
    ["fuse", "lost"],
    ["fuse", "undescribed"],
    ["fuse", "shared"],
    ["fuse", "scrubbed"],
    ["fuse", "files"],
    ["fuse", "hooked"],
    ["fuse", "broken"],
    ["fuse", "refused"],
  ] as const
  for (const [device, name] of all) makeNodeOf(join(nodes, name), device)
  // Says what it sees, and leaves a file in the container's root as the state tells it.
  const ofState = `pid=$(sed -n 's/.*"pid":\\([0-9]*\\).*/\\1/p' ${dir}/hook-saw)`
  const leaves = '[ -z "$pid" ] || echo from the hook > /proc/$pid/root/etc/hooked'
  writeFileSync(hook, `#!/bin/sh\n{ env; pwd; cat; } > ${dir}/hook-saw\n${ofState}\n${leaves}\n`, { mode: 0o755 })
  writeFileSync(brokenHook, "#!/bin/sh\necho no >&2; exit 3\n", { mode: 0o755 })
  // Succeeds once somebody says so.
  writeFileSync(scrub, `#!/bin/sh\necho "$1" >> ${dir}/scrubs\n[ "$1" != "${named("scrubbed")}" ] || [ -e ${dir}/may-pass ]\n`, {
    mode: 0o755,
  })
  writeFileSync(join(dir, "library.so"), "a vendor's library\n")
  const single = (name: string, device: object) =>
    describeDevices(join(cdi[0], `${name}.json`), { kind: KIND, devices: [device] })
  single("kvm", edits("kvm", "kvm"))
  single("fuse", edits("fuse", "fuse"))
  single("closed", {
    ...edits("kvm", "closed"),
    containerEdits: { deviceNodes: [{ path: "/dev/kvm", hostPath: join(nodes, "closed"), permissions: "none" }] },
  })
  single("tun", edits("tun", "tun", "/dev/net/tun"))
  for (const name of ["lost", "undescribed", "shared", "scrubbed"]) single(name, edits("fuse", name))
  const files = edits("fuse", "files")
  single("files", {
    ...files,
    containerEdits: {
      ...files.containerEdits,
      env: ["FROM_DEVICE=yes", "FROM_IMAGE=replaced"],
      mounts: [
        { hostPath: join(dir, "library.so"), containerPath: "/lib64/library.so", options: ["ro", "nosuid", "nodev", "rbind"] },
      ],
      additionalGids: [4242],
    },
  })
  const hooked = edits("fuse", "hooked")
  single("hooked", {
    ...hooked,
    containerEdits: {
      ...hooked.containerEdits,
      hooks: [{ hookName: "createContainer", path: hook, args: ["hook"], env: ["OWN=1"] }],
    },
  })
  const broken = edits("fuse", "broken")
  const failing = { hookName: "prestart", path: brokenHook, args: ["hook"] }
  single("broken", { ...broken, containerEdits: { ...broken.containerEdits, hooks: [failing] } })
  const refused = edits("fuse", "refused")
  single("refused", {
    ...refused,
    containerEdits: { ...refused.containerEdits, hooks: [{ hookName: "createContainer", path: "/bin/true" }] },
  })
  bench = await openHostBench({
    devices: { cdiDirs: cdi, hooks: [hook, brokenHook], scrub, lookEveryMs: 100 },
    image: { env: ["PATH=/bin", "FROM_IMAGE=yes", "LD_PRELOAD=/tmp/evil.so"] },
  })
  listen()
  buildProbe("devices", join(bench.dir, "image", "bin", "devprobe"))
  mkdirSync(join(bench.dir, "image", "usr", "lib"), { recursive: true })
  symlinkSync("usr/lib", join(bench.dir, "image", "lib64"))
})
afterAll(async () => {
  await bench.close()
  rmSync(dir, { recursive: true })
})

function listen(): void {
  bench.controller.listen({ notice: (notice) => notices.push(notice), facts: () => factsTold++, condition: () => {} })
}
const shown = (name: string) => bench.controller.devices.find((device) => device.name === named(name))
const withDevices = (run: Assignment, ...names: string[]): Assignment => ({ ...run, devices: names.map(named) })
const removed = (run: Assignment) => bench.controller.remove(run.run_id)
/** A device with one file, to be mounted at a path of the image's. */
async function withFileAt(name: string, at: string): Promise<(script: string) => Assignment> {
  makeNodeOf(join(nodes, name), "fuse")
  const device = edits("fuse", name)
  const mounts = [{ hostPath: join(dir, "library.so"), containerPath: at, options: ["ro"] }]
  describeDevices(join(cdi[0], `${name}.json`), {
    kind: KIND,
    devices: [{ ...device, containerEdits: { ...device.containerEdits, mounts } }],
  })
  await waitFor("the device", () => shown(name)?.healthy)
  return (script) => withDevices(bench.shell(script), name)
}
async function through(script: string, devices: string[], spec: Parameters<HostBench["shell"]>[1] = {}) {
  const run = withDevices(bench.shell(script, spec), ...devices)
  return bench.through(run).finally(() => removed(run))
}

describe("a device that was granted", () => {
  it("is used from inside for real: a virtual processor is made, fuse opened, tun asked for its features", async () => {
    const script = "devprobe kvm /dev/kvm; devprobe fuse /dev/fuse; devprobe tun /dev/net/tun"
    const { text } = await through(script, ["kvm", "fuse", "tun"])
    expect(text.split("\n")).toEqual(["kvm ok", "fuse ok", "tun ok"])
  })

  it("is used by a user other than root too, whose node it is", async () => {
    const script = "id -u; devprobe kvm /dev/kvm; devprobe kvm /dev/kvm node"
    const { text } = await through(script, ["kvm"], { user: "web", capabilities: [] })
    expect(text.split("\n")).toEqual(["1000", "kvm ok", "kvm 10:232 600 1000:1000"])
  })

  it("is the only one: others are not there, and what is made or reached otherwise is closed", async () => {
    const script = "ls /dev; devprobe kvm /dev/kvm make; devprobe kvm /dev/kvm"
    const { text } = await through(script, ["fuse"])
    const lines = text.split("\n")
    expect(lines).toContain("fuse")
    expect(lines.filter((line) => line.startsWith("kvm"))).toEqual(["kvm mknod EPERM", "kvm open ENOENT"])
  })

  it("is closed by the device controller too, not by its absence alone", async () => {
    const { text } = await through("devprobe kvm /dev/kvm node; devprobe kvm /dev/kvm", ["closed"])
    expect(text.split("\n")).toEqual(["kvm 10:232 600 0:0", "kvm open EPERM"])
  })

  it("comes with its files, variables and groups, where the image's links lead inside the image", async () => {
    const script = "cat /usr/lib/library.so; echo $FROM_DEVICE $FROM_IMAGE; id -G; echo x > /lib64/library.so; cat /proc/mounts"
    const { text } = await through(script, ["files"], { env: { FROM_DEVICE: "tenant" } })
    expect(text).toContain("a vendor's library")
    expect(text).toContain("yes replaced")
    expect(text).toMatch(/^0 .*\b4242\b/m)
    expect(text).toMatch(/ \/usr\/lib\/library\.so \S+ ro,nosuid,nodev/)
    expect(readFileSync(join(dir, "library.so"), "utf8")).toBe("a vendor's library\n")
  })

  it("is what the isolation shows, and no deviation", async () => {
    const run = await bench.up(withDevices(bench.shell("sleep 100"), "kvm", "files"))
    const read = await bench.controller.isolation(run.run_id)
    expect(read.deviations).toEqual([])
    expect(read.devices).toContainEqual({
      path: "/dev/kvm",
      type: "c",
      major: 10,
      minor: 232,
      access: expect.stringMatching(/^rw/),
    })
    expect(read.devices).toContainEqual({ path: "/dev/null", type: "c", major: 1, minor: 3, access: "rwm" })
    await removed(run)
  })
})

describe("a hook", () => {
  it("that the operator allows runs before the process starts, with nothing of the image's environment (CVE-2025-23266)", async () => {
    // A library of the image's that its environment has every program load.
    const evil = join(bench.dir, "image", "evil.so")
    buildProbe("preload", evil, ["-shared", "-fPIC"])
    const canary = join(dir, "canary")
    const env = { LD_PRELOAD: "./evil.so", CANARY: canary }
    const { text } = await through("cat /etc/hooked", ["hooked"], { env })
    expect(text).toBe("from the hook")
    expect(existsSync(canary)).toBe(false)
    const saw = readFileSync(join(dir, "hook-saw"), "utf8")
    expect(saw).toContain("OWN=1\n")
    expect(saw).toContain("\n/\n")
    expect(saw).not.toContain("LD_PRELOAD")
    expect(saw).toContain('"status":"created"')
    // With the fence taken away, as the vendor's hook was run: in the root, with the image's environment.
    execFileSync(hook, { cwd: join(bench.dir, "image"), env: { PATH: process.env["PATH"], ...env } })
    expect(existsSync(canary)).toBe(true)
  })

  it("that fails keeps the process from starting, and leaves nothing of it", async () => {
    const run = withDevices(bench.shell("sleep 100"), "broken")
    await bench.controller.prepare(run, never)
    await expect(bench.controller.start(run)).rejects.toMatchObject({ reason: { code: "device_hook_failed" }, retryable: false })
    expect(await bench.controller.inspect(run.run_id)).toEqual({ kind: "absent" })
    await removed(run)
    expect(await bench.controller.list()).not.toContain(run.run_id)
  })

  it("that nobody allowed takes its device off the list", async () => {
    expect(shown("refused")).toMatchObject({ healthy: false, reason: expect.stringContaining("--cdi-hook") })
    const run = withDevices(bench.shell("true"), "refused")
    await expect(bench.controller.prepare(run, never)).rejects.toMatchObject({ reason: { code: "device_unavailable" } })
    await removed(run)
  })
})

describe("a link in an image", () => {
  it("leads a set-up that joins paths out of the image (CVE-2024-0132, CVE-2025-23267), and ours not", async () => {
    const outside = join(dir, "outside")
    mkdirSync(outside)
    symlinkSync(outside, join(bench.dir, "image", "usr", "out"))
    const run = await withFileAt("out", "/usr/out/library.so")
    // Ours follows the link inside the image, where it leads nowhere.
    await expect(bench.up(run("true"))).rejects.toMatchObject({ reason: { code: "device_mount_refused" } })
    expect(readdirSync(outside)).toEqual([])
    // With the fence taken away.
    cpSync(join(dir, "library.so"), join(bench.dir, "image", "/usr/out/library.so"))
    expect(readdirSync(outside)).toEqual(["library.so"])
  })

  it.each([
    ["out of the image", "/../../etc", "/usr/etc-link/x"],
    ["into /proc", "/proc/self", "/usr/proc-link/x"],
    ["nowhere", "/not/there", "/usr/dangling"],
  ])("that leads %s does not lead the host astray", async (_, target, at) => {
    const link = join(bench.dir, "image", "usr", at.split("/")[2] ?? "")
    symlinkSync(target, link)
    const run = (await withFileAt(`link-${at.split("/")[2]}`, at))("ls -l /etc/x")
    const outcome = await bench.through(run).catch((error: { reason?: { code: string } }) => error.reason?.code)
    // Either it is refused by name, or it came to lie inside the image.
    if (typeof outcome === "string") expect(outcome).toBe("device_mount_refused")
    else expect(outcome).toMatchObject({ text: expect.stringContaining("/etc/x") })
    expect(existsSync("/etc/x")).toBe(false)
    await removed(run)
    rmSync(link)
  })
})

describe("a device that is not there", () => {
  it("is listed with the reason, until the kernel has it", async () => {
    makeNodeOf(join(nodes, "absent"), "nothing")
    describeDevices(join(cdi[0], "absent.yaml"), { kind: KIND, devices: [edits("fuse", "absent")] })
    await waitFor("the device", () => shown("absent")?.reason?.includes("has no device behind it (ENODEV)"))
    rmSync(join(nodes, "absent"))
    await waitFor("its absence", () => shown("absent")?.reason?.includes("is gone (ENOENT)"))
    makeNodeOf(join(nodes, "absent"), "fuse")
    await waitFor("its return", () => shown("absent")?.healthy)
  })
})

describe("a device in use", () => {
  it("is one run's: the next waits for it, and has it once the first is gone", async () => {
    const first = await bench.up(withDevices(bench.shell("sleep 100"), "shared"))
    const second = withDevices(bench.shell("devprobe fuse /dev/fuse"), "shared")
    let ready = false
    const waiting = bench.controller.prepare(second, never).then(() => (ready = true))
    await expect(bench.controller.prepare(withDevices(bench.shell("true"), "shared"), AbortSignal.timeout(200))).rejects.toThrow()
    expect(ready).toBe(false)
    await bench.controller.release(first.run_id)
    await waiting
    expect((await bench.through(second)).text).toBe("fuse ok")
    await removed(first)
  })

  it("stays with a run that was created and never let go when its bridge died, until that is released", async () => {
    const first = await bench.up(withDevices(bench.shell("sleep 100"), "tun"))
    const { record } = bench.paths(first.run_id)
    const nameless = { init: null, monitor: null, started_at_ms: null }
    writeRecord(record, { ...(readRecord(record) ?? expect.fail("no record")), ...nameless })
    await bench.controller.close()
    bench.controller = await bench.another()
    listen()
    const second = withDevices(bench.shell("true"), "tun")
    await expect(bench.controller.prepare(second, AbortSignal.timeout(300))).rejects.toThrow()
    await bench.controller.remove(first.run_id)
    await bench.up(second)
    await removed(second)
  })

  it("is lost when its node goes: told once, and listed so until it is back", async () => {
    const run = await bench.up(withDevices(bench.shell("sleep 100"), "lost"))
    notices = []
    rmSync(join(nodes, "lost"))
    await waitFor("the loss", () => notices.length > 0)
    await waitFor("the list", () => shown("lost")?.healthy === false)
    expect(notices).toMatchObject([{ run_id: run.run_id, kind: "accelerator_lost", reason: { code: "accelerator_lost" } }])
    const told = factsTold
    makeNodeOf(join(nodes, "lost"), "fuse")
    await waitFor("its return", () => shown("lost")?.healthy)
    expect(factsTold).toBeGreaterThan(told)
    expect(notices).toHaveLength(1)
    await removed(run)
  })

  it("is lost when nothing describes it any more, and not while its file is written anew", async () => {
    const run = await bench.up(withDevices(bench.shell("sleep 100"), "undescribed"))
    notices = []
    const file = join(cdi[0], "undescribed.json")
    renameSync(file, join(cdi[1], "undescribed.json"))
    await waitFor("a look", () => shown("undescribed")?.healthy)
    expect(notices).toEqual([])
    rmSync(join(cdi[1], "undescribed.json"))
    await waitFor("the loss", () => notices.some(({ run_id }) => run_id === run.run_id))
    await removed(run)
    await waitFor("a list without it", () => shown("undescribed") === undefined)
  })

  it("is another device when its node's number changes", async () => {
    rmSync(join(nodes, "shared"))
    makeNodeOf(join(nodes, "shared"), "tun")
    const described = edits("fuse", "shared").containerEdits.deviceNodes.map((node) => ({
      ...node,
      type: "c",
      major: 10,
      minor: 229,
    }))
    describeDevices(join(cdi[0], "shared.json"), {
      kind: KIND,
      devices: [{ name: "shared", containerEdits: { deviceNodes: described } }],
    })
    await waitFor("the list", () => shown("shared")?.reason?.includes("not what its description says"))
  })
})

const scrubs = () =>
  readFileSync(join(dir, "scrubs"), "utf8")
    .split("\n")
    .filter((name) => name === named("scrubbed")).length

describe("a device that was used", () => {
  it("is nobody's until it was scrubbed, also when the bridge dies in between", async () => {
    const first = await bench.up(withDevices(bench.shell("sleep 100"), "scrubbed"))
    expect(shown("scrubbed")).toMatchObject({ healthy: true })
    // Another bridge takes the run over, and knows whose the device is.
    await bench.controller.close()
    bench.controller = await bench.another()
    listen()
    const second = withDevices(bench.shell("devprobe fuse /dev/fuse"), "scrubbed")
    await expect(bench.controller.prepare(second, AbortSignal.timeout(200))).rejects.toThrow()
    await bench.controller.remove(first.run_id)
    await waitFor("a scrub that fails", () => shown("scrubbed")?.reason?.includes("could not be scrubbed"))
    // It dies while the device is dirty; no run names the device any more.
    await bench.controller.close()
    const before = scrubs()
    bench.controller = await bench.another()
    listen()
    await waitFor("a scrub by the next bridge", () => scrubs() > before)
    expect(shown("scrubbed")).toMatchObject({ healthy: false })
    writeFileSync(join(dir, "may-pass"), "")
    await bench.controller.close()
    bench.controller = await bench.another()
    listen()
    await waitFor("a clean device", () => shown("scrubbed")?.healthy)
    expect((await bench.through(second)).text).toBe("fuse ok")
  })
})
