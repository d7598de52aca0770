/**
 * Whose is what: tenants that use up everything the kernel counts for a user, an image that two tenants share, and a bridge
 * that was killed in between.
 */
import { execFile, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import type { Assignment } from "../../schema/protocol.ts"
import { anId } from "../support/assignments.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { buildProbe } from "../support/probes.ts"
import { waitFor } from "../support/wait-for.ts"

const MIB = 1024 * 1024
const BIG_BYTES = 8 * MIB
const call = promisify(execFile)
const [ANNA, BERT] = [anId("ten"), anId("ten")]

let bench: HostBench
let image = ""
beforeAll(async () => {
  bench = await openHostBench()
  image = join(bench.dir, "image")
  buildProbe("exhaust", join(image, "bin", "exhaust"))
  writeFileSync(join(image, "big"), Buffer.alloc(BIG_BYTES, "x"))
})
afterAll(() => bench.close())

const pidOf = (run: Assignment) => readRecord(bench.paths(run.run_id).record)?.init?.pid ?? expect.fail("it has no process")
const enter = (run: Assignment) => [`--user=/proc/${pidOf(run)}/ns/user`, "--setuid", "0", "--setgid", "0"]
const userNamespace = (run: Assignment) => statSync(`/proc/${pidOf(run)}/ns/user`).ino
const shellOf = (tenant_id: Assignment["tenant_id"], script: string): Assignment => ({
  ...bench.shell(script, { resources: { cpus: 1, memory_bytes: 256 * MIB, pids: 64, open_files: 4096 } }),
  tenant_id,
})

type Taken = Record<string, number>
const parse = (lines: readonly string[]): Taken =>
  Object.fromEntries(lines.map((line) => line.split(" ")).map(([what = "", count]) => [what, Number(count)]))

/** Starts a container that takes all it can, and says how much it got; it keeps it. */
async function exhaust(tenant: Assignment["tenant_id"]): Promise<{ readonly run: Assignment; readonly taken: Taken }> {
  const run = await bench.up(shellOf(tenant, "mkdir /dev/shm/w; exec exhaust /dev/mqueue /dev/shm/w"))
  const lines = await waitFor(
    "all to be taken",
    async () => {
      const said = (await bench.log(run)).map((entry) => entry.text)
      return said.at(-1) === "ready" && said.slice(0, -1)
    },
    30_000,
  )
  return { run, taken: parse(lines) }
}

/** The same as root of the host, a few of each. */
async function onHost(): Promise<Taken> {
  const script = 'mkdir "$0/q" "$0/w"; mount -t mqueue none "$0/q"; exec "$1" "$0/q" "$0/w" 3'
  const dir = execFileSync("mktemp", ["-d", join(bench.dir, "host-XXXXXX")], { encoding: "utf8" }).trim()
  const { stdout } = await call("unshare", ["--mount", "--ipc", "sh", "-ec", script, dir, join(image, "bin", "exhaust")])
  return parse(stdout.trim().split("\n").slice(0, -1))
}

const NOTHING = { watches: 0, instances: 0, queues: 0, timers: 0, locked: 0 }
const FEW = { watches: 3, instances: 3, queues: 3, timers: 3, locked: 3 }

test("a tenant that takes all that is counted for a user takes it from itself, in all its containers, across bridges", async () => {
  const first = await exhaust(ANNA)
  for (const [what, count] of Object.entries(first.taken)) expect(count, what).toBeGreaterThan(0)
  expect(first.taken["watches"]).toBe(65_536)

  const old = bench.controller
  bench.controller = await bench.another() // as after a crash: it knows only what is on the host
  try {
    const second = await exhaust(ANNA)
    expect(second.taken).toEqual(NOTHING)
    expect(userNamespace(second.run)).toBe(userNamespace(first.run))

    const other = await exhaust(BERT)
    expect(other.taken).toEqual(first.taken)
    expect(userNamespace(other.run)).not.toBe(userNamespace(first.run))
    expect(await onHost()).toEqual(FEW)
    for (const { run } of [first, second, other]) {
      expect((await bench.controller.isolation(run.run_id)).deviations).toEqual([])
      await bench.controller.remove(run.run_id)
    }
    const again = await exhaust(ANNA)
    expect(again.taken).toEqual(first.taken) // and what it gave back it has again
    await bench.controller.remove(again.run.run_id)
  } finally {
    await old.close()
  }
}, 120_000)

/** A program as the tenant's root, in its namespace, without the container's filter. */
const inside = async (run: Assignment, ...words: string[]) => (await call("nsenter", [...enter(run), ...words])).stdout

describe("past the filter", () => {
  const ADD_KEYS = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
made = 0
while made < 100000 and libc.syscall(248, b"user", b"k%d" % made, b"x", 1, -2) >= 0: made += 1
print(made, flush=True)
os.read(0, 1)`

  /** Adds keys until no more can be had, says how many, and keeps them until `letGo`. */
  async function addKeys(run: Assignment): Promise<{ readonly made: number; letGo(): Promise<void> }> {
    const child = spawn("nsenter", [...enter(run), "python3", "-c", ADD_KEYS], { stdio: ["pipe", "pipe", "inherit"] })
    const [said] = (await once(child.stdout, "data")) as [Buffer]
    return {
      made: Number(said.toString()),
      async letGo() {
        child.stdin.end()
        await once(child, "close")
      },
    }
  }

  test("a container's start makes no keyring of the tenant's: a kernel gives a user 200", async () => {
    const run = await bench.up(shellOf(anId("ten"), "sleep 100"))
    const owner = String(statSync(`/proc/${pidOf(run)}/root/bin`).uid)
    const users = readFileSync("/proc/key-users", "latin1").split("\n")
    expect(users.filter((line) => line.trim().startsWith(`${owner}:`) && !line.includes(" 0/0 "))).toEqual([])
  })

  test("keys are counted for the tenant, and namespaces are closed or bounded", async () => {
    const [anna, bert] = [await bench.up(shellOf(ANNA, "sleep 100")), await bench.up(shellOf(BERT, "sleep 100"))]
    const first = await addKeys(anna)
    const [second, other] = [await addKeys(anna), await addKeys(bert)]
    expect(first.made).toBeGreaterThan(100)
    expect([second.made, other.made]).toEqual([0, first.made])
    for (const keys of [first, second, other]) await keys.letGo()
    for (const kind of ["--user", "--net", "--time"]) {
      await expect(inside(anna, "unshare", kind, "true")).rejects.toThrow(/No space left/)
    }
    const caps = await inside(anna, "sh", "-c", "cd /proc/sys/user; grep -H . *")
    expect(caps.split("\n").filter((line) => Number(line.split(":")[1]) > 65_536)).toEqual([])
  })
})

test("two tenants share an image's pages and never an owner", async () => {
  // What the host has of it in memory goes first: the tenant that reads it pays for it.
  execFileSync("dd", [`of=${join(image, "big")}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"], { stdio: "ignore" })
  const script = [
    "cat /big > /dev/null",
    "cat /sys/fs/cgroup/memory/memory.stat /sys/fs/cgroup/memory.stat 2>/dev/null | grep -E '^(cache|file) '",
    "stat -c '%u %g %i' /big",
    "touch /mine",
    "sleep 100",
  ].join("; ")
  const read = async (tenant: Assignment["tenant_id"]) => {
    const run = await bench.up(shellOf(tenant, script))
    const said = await waitFor("its word", async () => {
      const lines = (await bench.log(run)).map((entry) => entry.text)
      return lines.length === 2 && lines
    })
    const [charged, [uid, gid, inode]] = [Number(said[0]?.split(" ")[1]), (said[1] ?? "").split(" ").map(Number)]
    const outside = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pidOf(run)}/status`, "utf8"))?.[1])
    const seen = await waitFor("its file", () => statSync(`/proc/${pidOf(run)}/root/mine`, { throwIfNoEntry: false }))
    return { charged, uid, gid, inode, outside, owner: statSync(`/proc/${pidOf(run)}/root/big`).uid, ownerOfNew: seen.uid }
  }
  const anna = await read(ANNA)
  const bert = await read(BERT)
  expect(anna.charged).toBeGreaterThanOrEqual(BIG_BYTES)
  expect(bert.charged).toBeLessThan(BIG_BYTES / 2)
  expect([anna.inode, bert.inode]).toEqual([statSync(join(image, "big")).ino, statSync(join(image, "big")).ino])
  for (const tenant of [anna, bert]) {
    expect(tenant).toMatchObject({ uid: 0, gid: 0, owner: tenant.outside, ownerOfNew: tenant.outside })
    expect(tenant.outside % 65_536).toBe(0)
    expect(tenant.outside).toBeGreaterThan(65_536)
  }
  expect(anna.outside).not.toBe(bert.outside)
  expect(statSync(join(image, "big"))).toMatchObject({ uid: 0, gid: 0 })
})
