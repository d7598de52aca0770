import { expect, test } from "vitest"
import { signalOf, standingOf, wasOomKilled } from "../../../node-bridge/runtime/outcome.ts"
import type { Sighting } from "../../../node-bridge/runtime/outcome.ts"

const aSighting = (changes: Partial<Sighting> = {}): Sighting => ({
  sameBoot: true, started: true, initAlive: true, monitorAlive: true, exitFile: null, ...changes,
}) // prettier-ignore
const exitFile = (text: string) => ({ text, mtimeMs: 5 })

test.each([
  ["all well", {}, { kind: "running" }],
  ["its process just ended, the monitor is writing", { initAlive: false }, { kind: "running" }],
  ["the file is there but still empty", { initAlive: false, exitFile: exitFile("") }, { kind: "running" }],
  ["an exit", { initAlive: false, exitFile: exitFile("7") }, { kind: "ended", code: 7, finishedAtMs: 5, fault: null }],
  ["an exit before a reboot", { sameBoot: false, exitFile: exitFile("0") }, { kind: "ended", code: 0, fault: null }],
  ["never let go", { started: false }, { kind: "not_started" }],
  ["the monitor was killed", { monitorAlive: false }, { kind: "unwatched" }],
  [
    "both are gone without a code",
    { monitorAlive: false, initAlive: false },
    { kind: "ended", code: null, fault: { code: "monitor_lost" } },
  ],
  [
    "the machine restarted",
    { sameBoot: false, monitorAlive: false, initAlive: false },
    { kind: "ended", fault: { code: "host_rebooted" } },
  ],
  [
    "the monitor died while it wrote",
    { monitorAlive: false, initAlive: false, exitFile: exitFile("") },
    { kind: "ended", code: null },
  ],
])("%s", (_what, changes, standing) => {
  expect(standingOf(aSighting(changes))).toMatchObject(standing)
})

test("codes above 128 name a signal", () => {
  expect([0, 7, 128, 137, 143, 139, 255, null].map(signalOf)).toEqual([
    null,
    null,
    null,
    "SIGKILL",
    "SIGTERM",
    "SIGSEGV",
    null,
    null,
  ])
})

test("out of memory needs both signs", () => {
  expect([wasOomKilled(137, 1), wasOomKilled(137, 0), wasOomKilled(0, 1), wasOomKilled(137, null), wasOomKilled(null, 1)]).toEqual([
    true, false, false, false, false,
  ]) // prettier-ignore
})
