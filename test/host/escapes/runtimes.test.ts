/**
 * Escapes that were found in container runtimes and monitors, each tried against a container of ours under both runtimes, and
 * then against the same `config.json` with the fence that stops it taken away. This file: programs, sockets, descriptors and
 * rights; `runtime-mounts.test.ts`: what a runtime mounts and finds in an image.
 */
import { execFileSync } from "node:child_process"
import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync, readSync, unlinkSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { copyOf, openEscapeBench } from "../../support/escape-bench.ts"
import { isKnown, openOurs, RUNTIMES, VERSIONS } from "../../support/escape-ours.ts"
import type { AllOurs } from "../../support/escape-ours.ts"
import { openHostBench } from "../../support/host-bench.ts"
import { buildProbe } from "../../support/probes.ts"
import { waitFor } from "../../support/wait-for.ts"

const escape = openEscapeBench()
const { dir } = escape
const secret = join(dir, "secret")
writeFileSync(secret, "a secret of the host")
/** The loader's place and system calls are those of one architecture. */
const X64 = process.arch === "x64"

/** Whatever looks dynamic in this image runs the attacker's loader; the runtime's own program is one. */
function withLoader(root: string): void {
  mkdirSync(join(root, "lib64"))
  buildProbe("loader", join(root, "lib64/ld-linux-x86-64.so.2"), ["-nostdlib", "-static-pie", "-fno-stack-protector"])
  buildProbe("overwrite", join(root, "bin/overwrite"))
}

const withAbstract = (root: string) => buildProbe("abstract", join(root, "bin/abstract"))
/** Bit 5 is CAP_KILL; a file may hand it on to whoever could inherit it. */
function withAble(root: string): void {
  const file = join(root, "bin/busybox-able")
  copyFileSync(join(root, "bin/busybox"), file)
  execFileSync("setcap", ["cap_kill+ei", file])
}

let ours: AllOurs
beforeAll(async () => {
  ours = await openOurs(dir, (root) => {
    if (X64) withLoader(root)
    withAbstract(root)
  })
})
afterAll(async () => {
  await ours.close()
  escape.close()
})

describe.runIf(X64).each(RUNTIMES)("CVE-2019-5736, %s overwritten through /proc/self/exe,", (runtime) => {
  test("fails: it runs from a copy that nobody can write, and it is not the tenant's", async () => {
    const { copy } = ours.of(runtime)
    const before = readFileSync(copy)
    const { text, outcome } = await ours.through(runtime, "", { command: ["/proc/self/exe"] })
    expect(text).toBe(runtime === "crun" ? "refused: Operation not permitted" : "refused: Permission denied")
    expect(outcome.exit.code).toBe(1)
    expect(readFileSync(copy).equals(before)).toBe(true)
    expect((await ours.through(runtime, "echo runs on")).text).toBe("runs on")
  })
})

/** Where the copy is not made, for crun believes that it was: runc looks closer. */
test.runIf(X64).each([
  { without: [], sealed: false, says: /^refused: Permission denied$/ },
  { without: ["user namespace"], sealed: true, says: /^refused: (Read-only file system|Operation not permitted)$/ },
  { without: ["user namespace"], sealed: false, says: /^overwritten$/ },
] as const)(
  "CVE-2019-5736, crun, with the copy: $sealed, and without: $without, it says $says",
  async ({ without, sealed, says }) => {
    const copy = copyOf(dir, ours.of("crun").copy)
    const fd = openSync(copy, "r")
    if (!sealed) unlinkSync(copy) // a program without a name passes for one that was copied
    const { text } = await escape.run("crun", "", {
      without,
      image: withLoader,
      spec: { command: ["/proc/self/exe"] },
      verbOptions: ["--detach"], // nobody runs it while it is overwritten
      program: sealed ? copy : `/proc/${process.pid}/fd/${fd}`,
      env: sealed ? {} : { _LIBCONTAINER_CLONED_BINARY: "1" },
    })
    const head = Buffer.alloc(11)
    readSync(fd, head, 0, 11, 0)
    closeSync(fd)
    expect(text).toMatch(says)
    expect(head.toString("latin1") === "overwritten").toBe(text === "overwritten")
  },
)

describe("CVE-2020-15257, a socket of the host in the abstract name space,", () => {
  const name = `berth-escape-${process.pid}`
  const server = createServer((socket) => socket.end("spoken by the host"))
  beforeAll(() => new Promise<void>((resolve) => void server.listen(`\0${name}`, resolve)))
  afterAll(() => void server.close())

  test.each(RUNTIMES)("is not there under %s, and is without a network namespace", async (runtime) => {
    expect((await ours.through(runtime, `abstract ${name}`)).text).toBe("refused: Connection refused")
    const said = await escape.run(runtime, `abstract ${name}`, { without: ["network namespace"], image: withAbstract })
    expect(said.text).toBe("spoken by the host")
  })
})

describe.each(RUNTIMES)(`CVE-2022-27650 (crun) and CVE-2022-29162 (runc), inheritable capabilities, under %s`, (runtime) => {
  const look = "busybox-able grep CapEff /proc/self/status"

  test("there are none, so a file has nobody to hand them to", async () => {
    const { text } = await ours.through(runtime, "grep -E 'CapInh|NoNewPrivs' /proc/self/status", { user: "web" })
    expect(text).toMatch(/^CapInh:\s+0{16}\nNoNewPrivs:\s+1$/)
  })

  test.each([
    { without: ["user namespace", "no new privileges"], inheritable: true, holds: "0000000000000020" },
    { without: ["user namespace"], inheritable: true, holds: "0000000000000000" },
    { without: ["user namespace", "no new privileges"], inheritable: false, holds: "0000000000000000" },
  ] as const)("without $without, inheritable: $inheritable, a user other than root holds $holds", async (given) => {
    const { text } = await escape.run(runtime, look, {
      without: given.without,
      image: withAble,
      spec: { user: "1000" },
      change: ({ process: { capabilities } }) => {
        const inheritable = given.inheritable ? ["CAP_KILL"] : []
        Object.assign(capabilities, { inheritable })
      },
    })
    expect(text).toMatch(new RegExp(`^CapEff:\\s+${given.holds}$`))
  })
})

describe("CVE-2024-21626, a working directory that is a descriptor of the host's,", () => {
  const script = `pwd 2>&1; cat ${"../".repeat(20)}${secret.slice(1)} 2>&1`
  const numbers = Array.from({ length: 12 }, (_, at) => at + 3)

  test.each(RUNTIMES)("leads nowhere under %s: none is open when the runtime starts", async (runtime) => {
    const said = await Promise.all(
      numbers.map((number) =>
        ours.through(runtime, script, { workdir: `/proc/self/fd/${number}` }).then(
          ({ text }) => text,
          (error: unknown) => String(error),
        ),
      ),
    )
    expect(said.filter((text) => text.includes(readFileSync(secret, "utf8")))).toEqual([])
    const { text } = await ours.through(runtime, "for fd in /proc/self/fd/*; do echo $fd; done")
    expect(text.split("\n").length).toBeLessThanOrEqual(4) // the three, and that of the folder being read
  })

  test.each(RUNTIMES)(`leads out where one was left open, unless the runtime looks: %s`, async (runtime) => {
    const descriptor = openSync(dir, "r")
    const spec = { workdir: "/proc/self/fd/3" }
    const verbOptions = runtime === "runc" ? ["--preserve-fds=1"] : []
    const { text } = await escape.run(runtime, script, { without: [], spec, descriptors: [descriptor], verbOptions })
    closeSync(descriptor)
    // crun looks from 1.14.1 on, Debian's runc 1.1.5 as runc 1.1.12 does.
    const looks = runtime === "runc" || !/ 1\.(\d|1[0-3])(\.|$)/.test(VERSIONS.crun)
    expect(text).toMatch(looks ? /outside of (the )?container|working directory/ : /a secret of the host/)
  })
})

/** crun 1.19 to 1.26 read `exec -u 1` as user 0. */
describe("CVE-2026-30892, the user of a further process read wrongly,", () => {
  test("cannot happen: the runtime is never asked for a further process", async () => {
    const calls = join(dir, "calls")
    const wrapper = join(dir, "crun-told")
    writeFileSync(wrapper, `#!/bin/sh\necho "$@" >> ${calls}\nexec crun "$@"\n`, { mode: 0o755 })
    const bench = await openHostBench({ tools: { crun: wrapper } })
    try {
      const run = await bench.up(bench.shell("sleep 100", { user: "web" }))
      await bench.controller.pause(run.run_id)
      await bench.controller.unpause(run.run_id)
      await bench.controller.isolation(run.run_id)
      await bench.controller.signal(run.run_id, "SIGKILL")
      await bench.outcome(run)
      await bench.controller.remove(run.run_id)
    } finally {
      await bench.close()
    }
    const words = readFileSync(calls, "utf8").trim().split("\n").map((line) => line.split(" ")) // prettier-ignore
    expect(words.flat()).toContain("create")
    expect(words.flat().filter((word) => word === "exec" || /^(-u|--user)/.test(word))).toEqual([])
  })

  test(`is the release's own affair: ${VERSIONS.crun}`, async () => {
    const bare = escape.start("crun", "echo up; sleep 100", { without: [] })
    await waitFor("the container", () => bare.text().includes("up"))
    const { text } = bare.exec("-u", "1", bare.id, "id", "-u")
    expect(text).toBe(isKnown("crun", "CVE-2026-30892") ? "0" : "1")
  })
})
