/** Real programs, with their usual entrypoints, under everything that the hardened profile closes. */
import { readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { busyboxStore } from "../support/busybox-image.ts"
import { debianPrograms } from "../support/debian-programs.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"

let bench: HostBench
let root = ""

beforeAll(async () => {
  root = debianPrograms()
  const images = busyboxStore(root, { env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"] })
  bench = await openHostBench({ images })
}, 600_000)
afterAll(() => bench.close())

const GIB = 1024 ** 3
const program = (name: string) => readFileSync(join(import.meta.dirname, "../support/programs", name), "utf8")

test.each([
  ["Debian's tools, packages and users", ["bash", "-c", program("tools.sh")]],
  [
    "Python with threads, processes, TLS and a server",
    ["sh", "-c", 'printf %s "$PROGRAM" > /tmp/p.py; exec python3 /tmp/p.py'],
    "python.py",
  ],
  ["Node.js as a server", ["node", "-e", program("node.js")]],
  ["Java, compiled and run", ["sh", "-c", 'printf %s "$PROGRAM" > /tmp/Main.java; exec java /tmp/Main.java'], "Main.java"],
  ["a Go program that serves HTTP", ["bash", "-c", program("go.sh")]],
  ["gcc and what it made", ["bash", "-c", program("gcc.sh")]],
  ["nginx from root to www-data at port 80", ["bash", "-c", program("nginx.sh")]],
  ["redis with both kinds of persistence", ["bash", "-c", program("redis.sh")]],
  ["PostgreSQL from initdb to a parallel query", ["bash", "-c", program("postgres.sh")]],
])("%s", async (_what, command, source = undefined) => {
  const run = bench.shell("", {
    command,
    env: source === undefined ? {} : { PROGRAM: program(source) },
    resources: { cpus: 2, memory_bytes: 2 * GIB, disk_bytes: 2 * GIB, pids: 512 },
  })
  await bench.up(run)
  expect((await bench.controller.isolation(run.run_id).catch(() => null))?.deviations ?? []).toEqual([])
  const outcome = await bench.controller.wait(run.run_id, AbortSignal.timeout(55_000))
  const text = (await bench.log(run)).map((entry) => entry.text).join("\n")
  expect({ code: outcome.exit.code, text }).toEqual({ code: 0, text: expect.stringMatching(/(^|\n)all well$/) })
  await bench.controller.remove(run.run_id)
})

test("the image belongs to the store as before: whoever ran it chowned nothing", () => {
  expect(statSync(join(root, "etc/passwd"))).toMatchObject({ uid: 0, gid: 0 })
  expect(statSync(join(root, "var/lib/postgresql")).uid).toBeLessThan(65_536)
})
