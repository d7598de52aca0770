/** Keeping the kernel's lock on cgroup moves fast, on this machine's kernel. */
import { readFileSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import { expect, test } from "vitest"
import { ownProcs, parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import { MigrationLock } from "../../node-bridge/runtime/migration-lock.ts"

const procs = ownProcs(parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8")), readFileSync("/proc/self/cgroup", "utf8"))

test.skipIf(procs === null)("leaves this process where it is", async () => {
  const before = readFileSync("/proc/self/cgroup", "utf8")
  const letGo = new MigrationLock(procs).keepFast()
  await delay(30)
  letGo()
  letGo()
  expect(readFileSync("/proc/self/cgroup", "utf8")).toBe(before)
})

test("a cgroup that is out of sight is no error", async () => {
  for (const lock of [new MigrationLock(null), new MigrationLock("/nowhere/cgroup.procs")]) {
    const letGo = lock.keepFast()
    await delay(5)
    letGo()
  }
})
