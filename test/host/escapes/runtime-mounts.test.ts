/**
 * Escapes through what a runtime finds in an image and mounts there, each tried against a container of ours under both runtimes,
 * and then against the same `config.json` without the mount that stops it. Those of 2025 were won by racing against containers
 * that share mounts; without the mount the image alone wins, at once, and no two containers of ours share any. The two over a link in place of `/dev` itself are in
 * `image-corpus.test.ts`, for such images are refused.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { openEscapeBench } from "../../support/escape-bench.ts"
import { isKnown, openOurs, RUNTIMES, VERSIONS } from "../../support/escape-ours.ts"
import type { AllOurs } from "../../support/escape-ours.ts"

const escape = openEscapeBench()
const made = join(escape.dir, "made")
const FILE_OF_PROC = "/proc/sys/kernel/domainname" // of the container's own UTS namespace: harmless, and read-only to it

const inDev = (name: string, target: string) => (root: string) => {
  mkdirSync(join(root, "dev"), { recursive: true })
  symlinkSync(target, join(root, "dev", name))
}

/** Links for the runtime to write through, to a file of the image's. */
function withLoot(root: string): void {
  inDev("null", "/loot")(root)
  mkdirSync(join(root, "proc/sys/kernel"), { recursive: true })
  symlinkSync("/loot", join(root, FILE_OF_PROC))
  writeFileSync(join(root, "loot"), "")
}

let ours: AllOurs
beforeAll(async () => {
  ours = await openOurs(escape.dir, (root) => {
    inDev("null", FILE_OF_PROC)(root)
    inDev("console", made)(root)
    mkdirSync(join(root, "proc/sys/kernel"), { recursive: true })
    symlinkSync("/loot", join(root, FILE_OF_PROC))
  })
})
afterAll(async () => {
  await ours.close()
  escape.close()
})

describe("what the runtime finds in /dev", () => {
  const DEVPTS = {
    destination: "/dev/pts",
    type: "devpts",
    source: "devpts",
    options: ["newinstance", "ptmxmode=0666", "mode=0620"],
  }
  const look =
    "ls -l /dev/null /dev/console; grep -E 'domainname|console' /proc/self/mountinfo; echo evil > /proc/interrupts; exit 3"

  test.each(RUNTIMES)(
    "is of its own making under %s (CVE-2025-31133, CVE-2025-52565, CVE-2026-88264, CVE-2026-88265)",
    async (runtime) => {
      const { text, outcome } = await ours.through(runtime, look, { tty: true })
      expect(outcome.exit.code).toBe(3)
      expect(text).toMatch(/crw-rw-rw-.* 1, +3 .*\/dev\/null/)
      expect(text).toMatch(/crw--w----.* 136, +\d+ .*\/dev\/console/)
      expect(text).not.toContain("domainname")
      expect(existsSync(made)).toBe(false)
      const { text: mounts } = await ours.through(runtime, "cat /proc/self/mountinfo")
      expect(mounts).toMatch(/ \/dev .* tmpfs /)
      expect(mounts).not.toMatch(/ shared:\d/)
    },
  )

  /** The masked path shows, and lets be written, what the link leads to; where it leads to the path itself there is no mask. */
  test.each([
    { target: "/proc/interrupts", also: [], script: "head -n 1 /proc/interrupts > /found", found: /CPU0/ },
    {
      target: FILE_OF_PROC,
      also: ["read-only paths"],
      script: `echo evil > /proc/interrupts; cat ${FILE_OF_PROC} > /found`,
      found: /^evil$/m,
    },
  ] as const)(`without it, ${VERSIONS.runc} masks with what /dev/null links to: $target (CVE-2025-31133)`, async (given) => {
    const without = ["own /dev", "user namespace", ...given.also] as const
    const bare = escape.start("runc", given.script, { without, image: inDev("null", given.target) })
    await bare.ended
    const found = join(bare.bundle, "root/found")
    expect(given.found.test(existsSync(found) ? readFileSync(found, "utf8") : "")).toBe(isKnown("runc", "CVE-2025-31133"))
  })

  test.each(RUNTIMES)("without it, %s mounts the console where the image says (CVE-2025-52565)", async (runtime) => {
    const { text } = await escape.run(runtime, look, {
      without: ["own /dev", "user namespace"],
      spec: { tty: true },
      image: inDev("console", FILE_OF_PROC),
      change: (spec) => (spec.mounts = [...spec.mounts, DEVPTS]),
    })
    const turned = runtime === "runc" ? isKnown("runc", "CVE-2025-52565") : isKnown("crun", "CVE-2026-88264")
    expect(/ \/proc\/sys\/kernel\/domainname .* devpts /.test(text)).toBe(turned)
  })

  test(`without it, crun makes a file of root's on the host (CVE-2026-88264): ${VERSIONS.crun}`, async () => {
    for (const kept of [true, false]) {
      const without = kept ? (["own /dev"] as const) : (["own /dev", "user namespace"] as const)
      await escape.run("crun", "true", { without, spec: { tty: true }, image: inDev("console", made) })
      expect(existsSync(made)).toBe(!kept && isKnown("crun", "CVE-2026-88264"))
    }
    rmSync(made, { force: true })
  })

  test(`without it, crun takes what /dev/null links to for standard input (CVE-2026-88265): ${VERSIONS.crun}`, async () => {
    const script = "ls -l /proc/self/fd > /found"
    const bare = escape.start("crun", script, { without: ["own /dev", "user namespace"], image: withLoot })
    await bare.ended
    const found = readFileSync(join(bare.bundle, "root/found"), "utf8")
    expect(/ -> \/loot$/m.test(found)).toBe(isKnown("crun", "CVE-2026-88265"))
  })
})

/** By its advisory (GHSA-cgrx-mc8f-2prm) sysctls and labels are what a runtime writes there. */
describe("CVE-2025-52881, the runtime's own writes to /proc sent elsewhere,", () => {
  const sysctl = { "kernel.domainname": "written by the runtime" }

  test.each(RUNTIMES)("has nothing to send under %s: it is told to write none, over a /proc of its own", async (runtime) => {
    const { bench } = ours.of(runtime)
    const run = await bench.up(bench.shell("sleep 100"))
    const config = JSON.parse(readFileSync(bench.paths(run.run_id).config, "utf8")) as {
      mounts: { destination: string; type: string }[]
      linux: object
      process: object
    }
    expect(Object.keys({ ...config.linux, ...config.process })).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/sysctl|apparmorProfile|selinuxLabel|mountLabel/)]),
    )
    expect(config.mounts.filter(({ destination }) => /^\/proc(\/|$)/.test(destination))).toMatchObject([{ type: "proc" }])
    const { text } = await ours.through(runtime, `cat ${FILE_OF_PROC}; ls /loot 2>&1`)
    expect(text).toMatch(/^\(none\)\nls: \/loot: No such file/)
  })

  test(`would go where the image's /proc leads: ${VERSIONS.runc}`, async () => {
    const without = ["own /proc", "user namespace"] as const
    const bare = escape.start("runc", "true", { without, image: withLoot, change: (spec) => (spec.linux.sysctl = sysctl) })
    await bare.ended
    const loot = readFileSync(join(bare.bundle, "root/loot"), "utf8")
    expect(loot).toBe(isKnown("runc", "CVE-2025-52881") ? "written by the runtime" : "")
  })
})
