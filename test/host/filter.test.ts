/**
 * The system call filter as a container meets it. Inside, a program finds out for every number of every entry point whether it
 * gets past the filter; outside, the same filter is evaluated. Both must say the same.
 */
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { CLONE_NEW_FLAGS, narrowed, NEWEST_KNOWN_NUMBER } from "../../node-bridge/oci/seccomp.ts"
import { compileSeccomp, numberOf } from "../../node-bridge/runtime/seccomp-compile.ts"
import { evaluate } from "../support/bpf.ts"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { buildProbe } from "../support/probes.ts"
import { waitFor } from "../support/wait-for.ts"

/** uretprobe and uprobe: Linux lets them past every filter. They do nothing but where the kernel itself put a probe. */
const PAST_EVERY_FILTER = [335, 336]
const SIGSYS = 31
const CLONE = numberOf("clone") ?? -1
const SOCKET = numberOf("socket") ?? -1
const ADVISE = numberOf("fadvise64") ?? -1

const ARGUMENTS: readonly (readonly number[])[] = [
  ...Array.from({ length: 46 }, (_, family) => [SOCKET, family, 3, 0, 0]),
  ...Array.from({ length: 23 }, (_, protocol) => [SOCKET, 16, 3, protocol, 0]),
  ...Array.from({ length: 31 }, (_, bit) => [CLONE, 2 ** bit, 0, 0, 0]),
  [CLONE, CLONE_NEW_FLAGS, 0, 0, 0],
  ...Array.from({ length: 6 }, (_, advice) => [ADVISE, 0, 0, 0, advice]),
]

interface Found {
  readonly entry: string
  readonly number: number
  readonly what: string
  readonly code: number
}

const parse = (text: string): Found[] =>
  text.split("\n").map((line) => {
    const [entry = "", number, what = "", code] = line.split(" ")
    return { entry, number: Number(number), what, code: Number(code ?? 0) }
  })

const reachedBy = (entry: string, found: readonly Found[]) =>
  found.filter((each) => each.entry === entry && each.what === "reached")
const wasKilled = ({ what, code }: Found) => what === "killed" && code === SIGSYS

describe.each(["crun", "runc"] as const)("under %s", (runtime) => {
  let bench: HostBench
  beforeAll(async () => {
    bench = await openHostBench({ runtime })
    buildProbe("reach", join(bench.dir, "image", "bin", "reach"))
  })
  afterAll(() => bench.close())

  const probe = async (deny: string[] = []) => {
    const lines = ARGUMENTS.map((args) => args.join(" ")).join("\\n")
    const run = await bench.up(bench.shell(`printf '${lines}\\n' | reach`, { seccomp: { deny } }))
    const { exit } = await bench.outcome(run)
    // The monitor cuts lines where its buffer ends.
    const text = (await bench.log(run)).map((entry) => (entry.partial ? entry.text : `${entry.text}\n`)).join("")
    expect(exit, text).toMatchObject({ code: 0 })
    return parse(text.trimEnd())
  }

  test("at most 200 system calls get past it, and no other entry point does", async () => {
    const found = await probe()
    const program = compileSeccomp(bench.dir, narrowed([]))
    const reached = found.filter(({ entry, what }) => entry === "x86_64" && what === "reached").map(({ number }) => number)
    const evaluated = Array.from({ length: 480 }, (_, number) => number).filter(
      (number) => !PAST_EVERY_FILTER.includes(number) && evaluate(program, { number }).kind === "allow",
    )
    expect(reached).toEqual(evaluated)
    // `socket` passes with some arguments, none of which is 0; what no filter stops counts too.
    expect(reached).not.toContain(SOCKET)
    expect(reached.length + 1 + PAST_EVERY_FILTER.length).toBeLessThanOrEqual(200)

    const others = found.filter(({ entry }) => entry === "x32" || entry === "i386")
    expect(others.length).toBe(2 * 480)
    expect(others.filter(({ what }) => what === "reached")).toEqual([])
    // Numbers that are newer than the list are answered before the entry point is looked at.
    expect(others.filter((each) => each.entry === "i386" && each.number <= NEWEST_KNOWN_NUMBER && !wasKilled(each))).toEqual([])

    const refused = found.filter(({ entry, what }) => entry === "x86_64" && what === "refused")
    for (const { number, code } of refused.filter((each) => !PAST_EVERY_FILTER.includes(each.number))) {
      const says = evaluate(program, { number })
      // runc answers unknown numbers ENOSYS in its own way, from the newest name of its list on.
      if (runtime === "crun") expect({ number, code }).toEqual({ number, code: says.kind === "errno" ? says.errno : 0 })
      else expect([1, 38, 97]).toContain(code)
    }
  })

  test("arguments are looked at: sockets by family, no namespaces, no page thrown out", async () => {
    const program = compileSeccomp(bench.dir, narrowed([]))
    const found = (await probe()).filter(({ entry }) => entry === "args")
    expect(found.map(({ what }) => what)).toEqual(
      ARGUMENTS.map(([number = 0, ...args]) => (evaluate(program, { number, args }).kind === "allow" ? "reached" : "refused")),
    )
  })

  test("what a tenant denies is closed as well, and the read-out holds the container to that filter", async () => {
    const [before, after] = [await probe(), await probe(["chmod", "socket", "mount"])]
    const left = new Set(reachedBy("x86_64", after).map(({ number }) => number))
    const gone = reachedBy("x86_64", before).filter(({ number }) => !left.has(number))
    expect(gone.map(({ number }) => number)).toEqual([numberOf("chmod")])
    expect([before, after].map((found) => reachedBy("args", found).some(({ number }) => number === SOCKET))).toEqual([
      true,
      false,
    ])

    const run = await bench.up(bench.shell("sleep 100", { seccomp: { deny: ["chmod"] } }))
    const plain = await bench.up(bench.shell("sleep 100"))
    const [narrow, wide] = [await bench.controller.isolation(run.run_id), await bench.controller.isolation(plain.run_id)]
    expect([narrow.deviations, wide.deviations]).toEqual([[], []])
    expect(narrow.seccomp.sha256).not.toBe(wide.seccomp.sha256)
  })

  test.each([
    ["chmodd", "seccomp_call_unknown"],
    ["execve", "seccomp_call_needed"],
  ])("%s cannot be denied, and the container says so", async (name, code) => {
    const run = bench.shell("true", { seccomp: { deny: [name] } })
    await expect(bench.controller.prepare(run, never)).rejects.toMatchObject({ reason: { code }, retryable: false })
    await bench.controller.remove(run.run_id)
  })

  test("fewer capabilities are fewer in every set, and none is none", async () => {
    const few = await bench.up(bench.shell("sleep 100", { capabilities: ["CAP_KILL", "CAP_CHOWN"] }))
    const read = await bench.controller.isolation(few.run_id)
    expect(read.deviations).toEqual([])
    for (const set of ["bounding", "effective", "permitted"] as const) {
      expect(read.capabilities[set].toSorted()).toEqual(["CAP_CHOWN", "CAP_KILL"])
    }
    const none = bench.shell("grep Cap /proc/self/status; chown web /tmp || echo refused; sleep 100", { capabilities: [] })
    await bench.up(none)
    expect((await bench.controller.isolation(none.run_id)).capabilities).toEqual({
      effective: [],
      permitted: [],
      inheritable: [],
      bounding: [],
      ambient: [],
    })
    const text = await waitFor("its word", async () => {
      const said = (await bench.log(none)).map((entry) => entry.text).join("\n")
      return /^refused$/m.test(said) && said
    })
    expect(text).toMatch(/CapBnd:\s+0{16}\n/)
  })
})
