/** Containers on disks of their own size, as they and the host see them. */
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { promisable } from "../../node-bridge/disk/capacity.ts"
import { diskCapacity, spaceOf, usageOf } from "../../node-bridge/disk/space.ts"
import type { HostListener } from "../../node-bridge/runtime/controller.ts"
import { readRecord, writeRecord } from "../../node-bridge/runtime/host-record.ts"
import type { Notice } from "../../schema/protocol.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { hungProcess } from "../support/hung-disk.ts"
import { loopsOf } from "../support/leftovers.ts"
import { waitFor } from "../support/wait-for.ts"

const MIB = 1024 ** 2
let bench: HostBench
const notices: Omit<Notice, "id">[] = []
const listener: HostListener = { notice: (notice) => void notices.push(notice), facts: () => {}, condition: () => {} }

beforeAll(async () => {
  bench = await openHostBench()
  bench.controller.listen(listener)
})
afterAll(async () => {
  await bench.close()
  await waitFor("every disk to go", () => loopsOf(bench.dir).length === 0)
})

const withDisk = (script: string, disk_bytes: number) => bench.shell(script, { resources: { disk_bytes } })
const toldOf = (run: { readonly run_id: string }) => notices.filter((notice) => notice.run_id === run.run_id)

test("a container that names no size has a gibibyte, and df inside says so", async () => {
  const { text } = await bench.through(bench.shell("df -m / | tail -n 1"))
  const [, blocks] = text.trim().split(/\s+/)
  expect(Number(blocks)).toBeGreaterThan(970)
  expect(Number(blocks)).toBeLessThanOrEqual(1_024)
})

test("writing ends at the quota with the error of a full disk, and the container lives on", async () => {
  const { outcome, text } = await bench.through(
    withDisk("dd if=/dev/zero of=/big bs=1M 2>&1; stat -c %s /big; rm /big; echo hi > /small && cat /small", 32 * MIB),
  )
  expect(text).toContain("No space left on device")
  const size = Number(/^\d{8}$/m.exec(text)?.[0])
  expect(size).toBeGreaterThan(28 * MIB)
  expect(size).toBeLessThan(32 * MIB)
  expect(text).toMatch(/^hi$/m)
  expect(outcome.exit.code).toBe(0)
})

test("files without content end too, and a neighbour's disk does not feel it", async () => {
  const neighbour = await bench.up(
    withDisk("trap 'echo still here > /f; cat /f; exit' USR1; while :; do usleep 10000; done", 16 * MIB),
  )
  const bomb = withDisk("i=0; while touch /f$i 2>/dev/null; do i=$((i+1)); done; echo $i", 16 * MIB)
  const made = Number((await bench.through(bomb)).text)
  expect(made).toBeGreaterThan(1_900)
  expect(made).toBeLessThan(2_048)
  await bench.controller.signal(neighbour.run_id, "SIGUSR1")
  expect((await bench.outcome(neighbour)).exit).toMatchObject({ code: 0, log_tail: ["still here"] })
})

test("what a read-only container writes to /tmp and /run is its memory, not the host's", async () => {
  for (const place of ["/tmp", "/run"]) {
    const run = bench.shell(`exec dd if=/dev/zero of=${place}/big bs=1M count=200`, {
      read_only: true,
      resources: { memory_bytes: 48 * MIB, disk_bytes: 16 * MIB },
    })
    expect((await bench.through(run)).outcome.exit).toMatchObject({ code: 137, oom_killed: true })
  }
})

test("a full disk is told once for each filling", async () => {
  const script = `
    fill() { dd if=/dev/zero of=/big bs=1M 2>/dev/null; echo full; }
    trap 'rm /big; echo empty' USR1
    trap fill USR2
    fill; while :; do usleep 10000; done`
  const run = await bench.up(withDisk(script, 16 * MIB))
  const said = async (word: string) => (await bench.log(run)).filter(({ text }) => text === word).length
  await waitFor("word of the first", () => toldOf(run).length === 1)
  expect(toldOf(run)).toMatchObject([{ kind: "disk_full", reason: { code: "disk_full" } }])
  for (let filling = 1; toldOf(run).length === 1; filling++) {
    await bench.controller.signal(run.run_id, "SIGUSR1")
    await waitFor("room", async () => (await said("empty")) === filling)
    await bench.controller.signal(run.run_id, "SIGUSR2") // a look may fall between the two, or not: then once more
    await waitFor("another filling", async () => (await said("full")) === filling + 1)
  }
  expect(toldOf(run)).toHaveLength(2)
  await bench.controller.remove(run.run_id)
})

test("a run that lives on keeps its disk, and the next bridge tells of it", async () => {
  const script = "trap 'dd if=/dev/zero of=/big bs=1M 2>/dev/null; df -m / | tail -n 1' USR1; while :; do usleep 10000; done"
  const run = await bench.up(withDisk(script, 16 * MIB))
  const old = bench.controller
  await old.close()
  await waitFor("the pool to go", () => loopsOf(bench.dir).length === 1)
  bench.controller = await bench.another()
  bench.controller.listen(listener)
  await bench.controller.signal(run.run_id, "SIGUSR1")
  await waitFor("word of it", () => toldOf(run).length === 1)
  await waitFor("what df says", async () => (await bench.log(run)).some(({ text }) => / (99|100)% /.test(text)))
  await bench.controller.remove(run.run_id)
})

test("what a live container has written is promised to it already, and offered once more", async () => {
  const run = withDisk("fallocate -l 600M /f && echo written; sleep 100", 1024 * MIB)
  await bench.up(run)
  await waitFor("the file", async () => (await bench.log(run)).some(({ text }) => text.includes("written")))
  const { freeBytes } = await spaceOf(bench.dir)
  const live = (await diskCapacity(join(bench.dir, "state"), 1)) - promisable({ freeBytes }, 0, 1)
  // Others write to the host's disk meanwhile.
  expect(live).toBeGreaterThan(400 * MIB)
  await bench.controller.remove(run.run_id)
})

test("a container that wrote much is gone in a moment, and its disk with it", async () => {
  const script =
    "i=0; while [ $i -lt 5000 ]; do echo $i > /f$i; i=$((i+1)); done; dd if=/dev/zero of=/big bs=1M count=200; echo written; sleep 100"
  const run = await bench.up(bench.shell(script))
  await waitFor("it to write", async () => (await bench.log(run)).some(({ text }) => text === "written"), 20_000)
  const from = performance.now()
  await bench.controller.remove(run.run_id)
  expect(performance.now() - from).toBeLessThan(1_000)
  await waitFor("its disk to go", () => loopsOf(bench.dir).length <= 1, 1_000)
})

test("disks that hang cost an answer about themselves, and neither the bridge nor its work with files anything", async () => {
  const run = await bench.up(bench.shell("sleep 100"))
  const hung = await Promise.all([1, 2, 3, 4, 5].map((number) => hungProcess(join(bench.dir, `hung-${number}`))))
  const { record: file } = bench.paths(run.run_id)
  const record = readRecord(file)
  if (record === null || hung[0] === undefined) throw new Error("the run has no record")
  try {
    writeRecord(file, { ...record, init: hung[0].identity })
    const read = await bench.controller.isolation(run.run_id)
    expect(read).toMatchObject({ limits: { disk_bytes: null }, devices: [], verdict: "deviates" })
    expect(read.deviations).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^the disk limit is unknown/),
        expect.stringMatching(/^the devices are unknown/),
      ]),
    )
    expect(await Promise.all(hung.map(({ identity }) => usageOf(identity)))).toEqual(hung.map(() => null))
    expect(await readFile("/proc/self/comm", "utf8")).not.toBe("") // through the same threads
  } finally {
    writeRecord(file, record)
    for (const { end } of hung) await end()
  }
  await waitFor(
    "the disks to be asked again",
    async () => (await bench.controller.isolation(run.run_id)).limits.disk_bytes !== null,
  )
  await bench.controller.remove(run.run_id)
})
