import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { afterAll, beforeAll, expect, test } from "vitest"
import { anAssignment } from "../support/assignments.ts"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { leftovers, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { waitFor } from "../support/wait-for.ts"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"

let bench: HostBench
let before: Snapshot
const MIB = 1024 * 1024

beforeAll(async () => {
  before = snapshot(["berth-host-"])
  bench = await openHostBench()
})

afterAll(async () => {
  await bench.close()
  const instance = createHash("sha256").update(`${bench.dir}/state`).digest("hex").slice(0, 6)
  const left = () =>
    leftovers(before, snapshot([bench.dir])).filter((item) => !/^(links|nftTables):/.test(item) || item.includes(instance))
  await waitFor("nothing left behind", () => left().length === 0).catch(() => expect(left()).toEqual([]))
})

test("the self-test ran, so the profile is offered", () => {
  expect(bench.controller.profiles).toMatchObject([{ name: "hardened", runtime: "crun" }])
  expect(Object.keys(bench.controller.versions)).toEqual(expect.arrayContaining(["kernel", "conmon", "crun"]))
})

test("a container says something on both streams and ends with its own code", async () => {
  const { outcome, text } = await bench.through(bench.shell("echo out; echo err >&2; exit 7"))
  expect(outcome.exit).toMatchObject({ code: 7, signal: null, oom_killed: false })
  expect(outcome.host_fault).toBeNull()
  expect(outcome.exit.log_tail.toSorted()).toEqual(["err", "out"])
  expect(text.split("\n").toSorted()).toEqual(["err", "out"])
})

test.skipIf(!/^ID=debian$/m.test(readFileSync("/etc/os-release", "utf8")))("programs are told with their Debian package", () => {
  const release = /^VERSION_ID="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1]
  const version = execFileSync("dpkg-query", ["-W", "-f", "${source:Version}", "conmon"], { encoding: "utf8" })
  expect(bench.controller.versions["conmon_package"]).toBe(`debian:${release} ${version}`)
})

test("command and args follow Docker's rules", async () => {
  const plain = anAssignment({ spec: { network: { egress: "none" } } })
  expect((await bench.through(plain)).text).toBe("from the image")
  const args = anAssignment({ spec: { network: { egress: "none" }, args: ["echo other arguments"] } })
  expect((await bench.through(args)).text).toBe("other arguments")
  const command = anAssignment({ spec: { network: { egress: "none" }, command: ["echo", "a"], args: ["b"] } })
  expect((await bench.through(command)).text).toBe("a b")
})

test("environment, host name, user by name and working directory are as asked", async () => {
  const script = "id; pwd; hostname; echo $FROM_IMAGE $MINE $HOME; cat /etc/hostname; ls -ld ."
  const { text } = await bench.through(
    bench.shell(script, { user: "web", workdir: "/home/web/../web/new", env: { MINE: "a b" }, hostname: "box-7" }),
  )
  const [id, pwd, host, env, file] = text.split("\n")
  expect(id).toBe("uid=1000(web) gid=1000(web) groups=2000(extra)")
  expect([pwd, host, env, file]).toEqual(["/home/web/new", "box-7", "yes a b /home/web", "box-7"])
})

test("a signal reaches the first process, and an end by a signal says which", async () => {
  const run = await bench.up(bench.shell("trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.1; done"))
  await waitFor("the trap", async () => (await bench.log(run)).some((entry) => entry.text === "ready"))
  await bench.controller.signal(run.run_id, "SIGUSR1")
  expect((await bench.outcome(run)).exit).toMatchObject({ code: 3, signal: null })

  const other = await bench.up(bench.shell("sleep 100"))
  await bench.controller.signal(other.run_id, "SIGKILL")
  expect((await bench.outcome(other)).exit).toMatchObject({ code: 137, signal: "SIGKILL", oom_killed: false })
  await bench.controller.signal(other.run_id, "SIGTERM") // ended: success
  expect(await bench.controller.stopSignal(other.run_id)).toBe("SIGUSR1")
})

test("a process over its memory limit is killed and it says so", async () => {
  const run = bench.shell("x=$(yes | head -c 100000000); echo never", {
    resources: { cpus: 1, memory_bytes: 24 * MIB, pids: 32 },
  })
  run.spec.command = ["sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=100M count=1"]
  expect((await bench.through(run)).outcome.exit).toMatchObject({ code: 137, oom_killed: true })
})

test("a child killed for memory is not the container's own end", async () => {
  const { outcome } = await bench.through(
    bench.shell("dd if=/dev/zero of=/dev/null bs=100M count=1; echo child $?; exit 0", {
      resources: { cpus: 1, memory_bytes: 24 * MIB, pids: 32 },
    }),
  )
  expect(outcome.exit).toMatchObject({ code: 0, oom_killed: false, log_tail: expect.arrayContaining(["child 137"]) })
})

test("a run of one processor or less runs on one, whatever it asks the kernel for", async () => {
  const script = "taskset -p ffffffff $$ >/dev/null; grep Cpus_allowed_list /proc/self/status"
  const { text } = await bench.through(bench.shell(script, { resources: { cpus: 0.1, memory_bytes: 24 * MIB, pids: 32 } }))
  expect(text).toMatch(/^Cpus_allowed_list:\s*\d+$/m)
})

test("the process limit holds", async () => {
  const { text } = await bench.through(
    bench.shell("i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo started all", {
      resources: { cpus: 1, memory_bytes: 64 * MIB, pids: 12 },
    }),
  )
  expect(text).toContain("can't fork")
})

test.each([
  [
    "a command that is not in PATH",
    ["nonesuch"],
    undefined,
    "command_not_found",
    127,
    "“nonesuch” was not found in the image's PATH.",
  ],
  ["a path that is not there", ["/bin/none"], undefined, "command_not_found", 127, "“/bin/none” was not found in the image."],
  ["a file that is no program", ["/etc/notes"], undefined, "command_not_executable", 126, "“/etc/notes” cannot be executed."],
  ["a directory as command", ["/etc"], undefined, "command_not_executable", 126, "“/etc” cannot be executed."],
  ["a file as working directory", ["true"], "/etc/passwd", "workdir_invalid", 126, "“/etc/passwd”"],
])("%s is refused in words for the tenant", async (_what, command, workdir, code, exitCode, words) => {
  const run = bench.shell("", { command, ...(workdir === undefined ? {} : { workdir }) })
  await bench.controller.prepare(run, never)
  const error: unknown = await bench.controller.start(run).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ reason: { code, message: expect.stringContaining(words) }, exitCode, retryable: false })
  expect(JSON.stringify(error)).not.toContain(bench.dir)
  await bench.controller.remove(run.run_id)
  expect(await bench.controller.inspect(run.run_id)).toEqual({ kind: "absent" })
})

test("a user that the image does not have is refused while preparing", async () => {
  const run = bench.shell("true", { user: "nobody-here" })
  await expect(bench.controller.prepare(run, never)).rejects.toMatchObject({ reason: { code: "user_not_found" } })
  await bench.controller.remove(run.run_id)
  expect(await bench.controller.list()).not.toContain(run.run_id)
})

test("a terminal is one when asked for", async () => {
  expect((await bench.through(bench.shell("tty; echo $TERM", { tty: true }))).text).toMatch(/\/dev\/(pts\/0|console).*xterm/s)
  expect((await bench.through(bench.shell("tty"))).text).toContain("not a tty")
})

test("a read-only root still has room in /tmp and /run", async () => {
  const { text } = await bench.through(
    bench.shell("touch /x 2>&1 || echo refused; touch /tmp/a /run/b && echo written", { read_only: true }),
  )
  expect(text).toMatch(/Read-only file system[\s\S]*refused[\s\S]*written/)
})

test("two containers of one image see none of each other's writes", async () => {
  await bench.through(bench.shell("echo mine > /etc/mine; chown web /etc/mine; cat /etc/mine"))
  expect((await bench.through(bench.shell("cat /etc/mine"))).text).toContain("No such file")
})

test("pause stops the process, unpause lets it go on, and each may be said twice", async () => {
  const run = await bench.up(bench.shell("while :; do echo tick; usleep 20000; done"))
  await waitFor("a tick", async () => (await bench.log(run)).length > 2)
  await bench.controller.pause(run.run_id)
  await bench.controller.pause(run.run_id)
  expect(await bench.controller.inspect(run.run_id)).toMatchObject({ kind: "running", paused: true })
  await bench.controller.unpause(run.run_id)
  await bench.controller.unpause(run.run_id)
  const had = (await bench.log(run)).length
  await waitFor("more ticks", async () => (await bench.log(run)).length > had)
  await bench.controller.pause(run.run_id)
  await bench.controller.signal(run.run_id, "SIGKILL")
  expect((await bench.outcome(run)).exit.code).toBe(137)
})

test("every verb may be said again at any point", async () => {
  const run = bench.shell("sleep 100")
  await bench.controller.prepare(run, never)
  await bench.controller.prepare(run, never)
  expect(await bench.controller.inspect(run.run_id)).toEqual({ kind: "prepared" })
  const first = await bench.controller.start(run)
  expect(await bench.controller.start(run)).toMatchObject({ started_at_ms: first.started_at_ms })
  await bench.controller.prepare(run, never)
  expect(await bench.controller.inspect(run.run_id)).toMatchObject({ kind: "running" })
  await bench.controller.release(run.run_id)
  await bench.controller.release(run.run_id)
  expect(await bench.controller.inspect(run.run_id)).toMatchObject({ kind: "exited", outcome: { exit: { code: 137 } } })
  await bench.controller.remove(run.run_id)
  await bench.controller.remove(run.run_id)
  expect(await bench.controller.inspect(run.run_id)).toEqual({ kind: "absent" })
})

test("release keeps the log, remove does not", async () => {
  const run = bench.shell("echo kept")
  await bench.through(run)
  await bench.controller.release(run.run_id)
  expect((await bench.log(run)).map((entry) => entry.text)).toEqual(["kept"])
  expect(bench.images.holders.has(run.run_id)).toBe(false)
  await bench.controller.remove(run.run_id)
  expect(await bench.log(run)).toEqual([])
})

test("a killed monitor is noticed: the container is ended and the host is to blame", async () => {
  const run = await bench.up(bench.shell("sleep 100"))
  const record = readRecord(bench.paths(run.run_id).record)
  const waiting = bench.outcome(run)
  process.kill(record?.monitor?.pid ?? 0, "SIGKILL")
  expect(await waiting).toMatchObject({ exit: { code: null }, host_fault: { code: "monitor_lost" } })
})

test("a record of another boot means that the machine restarted", async () => {
  const run = await bench.up(bench.shell("sleep 100"))
  const { record: file } = bench.paths(run.run_id)
  const record = readFileSync(file, "utf8")
  writeFileSync(file, record.replaceAll(/"boot_id":"[^"]*"/g, '"boot_id":"another"'))
  expect(await bench.controller.inspect(run.run_id)).toMatchObject({
    kind: "exited",
    outcome: { exit: { code: null }, host_fault: { code: "host_rebooted" } },
  })
})

test("another bridge takes over what runs, with its network, log and end", async () => {
  const run = await bench.up(
    bench.shell("trap 'ip addr show eth0; exit 5' USR1; echo first; while :; do sleep 0.05; done", {
      network: { egress: "open" },
    }),
  )
  const prepared = bench.shell("true")
  await bench.controller.prepare(prepared, never)
  const old = bench.controller
  bench.controller = await bench.another()
  try {
    expect(await bench.controller.list()).toEqual(expect.arrayContaining([run.run_id, prepared.run_id]))
    expect(await bench.controller.inspect(run.run_id)).toMatchObject({ kind: "running", paused: false })
    expect(await bench.controller.inspect(prepared.run_id)).toEqual({ kind: "absent" })
    await bench.controller.signal(run.run_id, "SIGUSR1")
    expect((await bench.outcome(run)).exit.code).toBe(5)
    expect((await bench.log(run)).map((entry) => entry.text).join("\n")).toMatch(/first[\s\S]*inet 100\./)
    await bench.controller.start(prepared) // prepares it anew
    expect((await bench.outcome(prepared)).exit.code).toBe(0)
  } finally {
    await old.close()
  }
})

test("a process that was created and never let go is not taken for a running one", async () => {
  const run = await bench.up(bench.shell("echo once"))
  await bench.outcome(run)
  const lost = bench.shell("echo second; sleep 100")
  await bench.up(lost)
  // As if the bridge had died between the runtime's start and its own note of it.
  const { record: file } = bench.paths(lost.run_id)
  writeFileSync(file, readFileSync(file, "utf8").replace(/"started_at_ms":\d+/, '"started_at_ms":null'))
  expect(await bench.controller.inspect(lost.run_id)).toMatchObject({ kind: "running" })
})

test("twenty starts at once all come up, and nothing of any is left", async () => {
  const runs = Array.from({ length: 20 }, () => bench.shell("sleep 100"))
  await Promise.all(runs.map((run) => bench.up(run)))
  const seen = await Promise.all(runs.map((run) => bench.controller.inspect(run.run_id)))
  expect(seen.every((inspection) => inspection.kind === "running")).toBe(true)
  await Promise.all(runs.map((run) => bench.controller.remove(run.run_id)))
  const mounts = execFileSync("cat", ["/proc/self/mountinfo"], { encoding: "utf8" })
  expect(runs.filter((run) => mounts.includes(run.run_id))).toEqual([])
})

test("a log over its limit is rotated without losing a line, and a cursor survives it", async () => {
  const lines = 200_000 // of about 100 bytes: two rotations and more
  const run = await bench.up(
    bench.shell(`i=0; while [ $i -lt ${lines} ]; do echo "$i abcdefghijklmnopqrstuvwxyz abcdefghij"; i=$((i+1)); done`, {
      resources: { log_bytes_per_second: 8 * MIB },
    }),
  )
  let next = 0
  let middle = ""
  let begun = ""
  for await (const entry of bench.controller.logs(
    run.run_id,
    { follow: true, since_ms: null, tail: null, streams: ["stdout"], after: null },
    never,
  )) {
    begun += entry.text
    if (entry.partial) continue
    expect(Number(begun.split(" ")[0])).toBe(next)
    begun = ""
    next++
    if (next === lines - 20_000) middle = entry.cursor
  }
  expect(next).toBe(lines)
  expect((await bench.log(run, { after: middle })).filter((entry) => !entry.partial).length).toBe(20_000)
  expect((await bench.log(run, { tail: 3 })).map((entry) => entry.text).join("\n")).toContain(`${lines - 3} a`)
}, 60_000)
