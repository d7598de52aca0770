/** Limits on what a container reads and writes, by the clock: what is written directly or synced, as either cgroup version limits. */
import { afterAll, beforeAll, expect, test } from "vitest"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"

let bench: HostBench
const MIB = 1024 * 1024

beforeAll(async () => {
  bench = await openHostBench()
})
afterAll(() => bench.close())

/** How long a script takes inside, by the container's own clock, in seconds. */
async function seconds(script: string, io: object): Promise<number> {
  const timed = `a=$(cut -d' ' -f1 /proc/uptime); ${script}; b=$(cut -d' ' -f1 /proc/uptime); echo took $a $b`
  const { text } = await bench.through(bench.shell(timed, { resources: { memory_bytes: 256 * MIB, io } }))
  const [, began, ended] = /took (\S+) (\S+)/.exec(text) ?? []
  return Number(ended) - Number(began)
}

const WRITE = "dd if=/dev/zero of=/file bs=1M count=8 oflag=direct 2>/dev/null"
const READ =
  "dd if=/dev/zero of=/file bs=1M count=8 conv=fsync 2>/dev/null; dd if=/file of=/dev/null bs=1M iflag=direct 2>/dev/null"

test("this host says that it limits disks", () => {
  expect(bench.controller.profiles[0]?.features).toContain("io_limits")
})

test("bytes written a second", async () => {
  expect(await seconds(WRITE, {})).toBeLessThan(0.8)
  const limited = await seconds(WRITE, { write_bytes_per_second: 5 * MIB })
  expect(limited).toBeGreaterThan(1.2)
  expect(limited).toBeLessThan(2.6)
})

test("bytes read a second", async () => {
  expect(await seconds(READ, { read_bytes_per_second: 5 * MIB })).toBeGreaterThan(1.2)
})

test("operations a second", async () => {
  const small = "dd if=/dev/zero of=/file bs=4k count=60 oflag=direct 2>/dev/null"
  expect(await seconds(small, { write_operations_per_second: 40 })).toBeGreaterThan(1)
})

test("what is in force is read back", async () => {
  const io = { read_bytes_per_second: 5 * MIB, write_operations_per_second: 100 }
  const run = await bench.up(bench.shell("sleep 100", { resources: { io } }))
  const read = await bench.controller.isolation(run.run_id)
  expect([read.deviations, read.limits.io]).toEqual([[], io])
})
