import { describe, expect, it } from "vitest"
import { advance, KILL_REPEAT_MS, stopTimeoutSeconds } from "../../../node-bridge/agent/advance.ts"
import type { Facts, Step } from "../../../node-bridge/agent/advance.ts"
import type { RunRecord, Stop } from "../../../node-bridge/agent/record.ts"
import type { Outcome } from "../../../node-bridge/runtime/controller.ts"
import { aRecord, BOOT, NOW } from "../../support/assignments.ts"

const ABSENT = { kind: "absent" } as const
const PREPARED = { kind: "prepared" } as const
const RUNNING = { kind: "running", paused: false, started_at_ms: NOW } as const
const FROZEN = { ...RUNNING, paused: true }
const outcome = (code: number): Outcome => ({
  exit: { code, signal: null, oom_killed: false, log_tail: [] },
  finished_at_ms: NOW + 5,
  host_fault: null,
})
const EXITED = { kind: "exited", outcome: outcome(3) } as const
const STOP: Stop = {
  by: "tenant", reason: { code: "stopped", message: "The container was told to stop." },
  limit_seconds: null, asked_at_ms: NOW, signalled_at_ms: null, killed_at_ms: null,
} // prettier-ignore
const SIGNALLED = { ...STOP, signalled_at_ms: NOW }
const KILLED = { ...SIGNALLED, killed_at_ms: NOW }

/** The step as one word: what is done, or the state that the record goes to. */
function word(step: Step): string {
  switch (step.kind) {
    case "wait":
      return step.untilMs === null ? "wait" : `wait ${step.untilMs - NOW}`
    case "record": {
      const { state, reason, exit, stop } = step.record
      const why = reason ? ` ${reason.code}` : ""
      return `→ ${state}${why}${exit ? ` by ${exit.by}` : ""}${stop && !reason ? " stopping" : ""}`
    }
    case "prepare":
      return step.clear ? "clear, prepare" : "prepare"
    default:
      return step.kind
  }
}

const row = (record: Parameters<typeof aRecord>[0], facts: Partial<Facts> = {}, afterMs = 0): string =>
  word(advance(aRecord(record), { seen: ABSENT, dropped: false, bootId: BOOT, notBeforeMs: 0, ...facts }, NOW + afterMs))

describe("a run on its way up", () => {
  it.each([
    ["accepted, nothing here", row({}), "→ preparing"],
    ["preparing", row({ state: "preparing" }), "prepare"],
    ["ready and prepared", row({ state: "ready" }, { seen: PREPARED }), "start"],
    [
      "prepared with a network that has changed since",
      row({ state: "ready", network_due: true }, { seen: PREPARED }),
      "clear, prepare",
    ],
    ["the same, and a start failed", row({ state: "starting", network_due: true }, { seen: PREPARED }), "clear, prepare"],
    ["running with a network that has changed", row({ state: "running", network_due: true }, { seen: RUNNING }), "set_network"],
    ["ready, and the preparation is gone", row({ state: "ready" }), "prepare"],
    ["running", row({ state: "running" }, { seen: RUNNING }), "wait"],
    ["a verb has just failed", row({ state: "preparing" }, { notBeforeMs: NOW + 250 }), "wait 250"],
    ["a record change never waits for the host", row({}, { notBeforeMs: NOW + 250 }), "→ preparing"],
  ])("%s", (_, step, expected) => expect(step).toBe(expected))
})

describe("a run found after a restart of the bridge", () => {
  const unknown = { seen: null }
  it.each([
    ["anything live is looked at first", row({ state: "preparing" }, unknown), "inspect"],
    ["starting is looked at first", row({ state: "starting" }, unknown), "inspect"],
    ["starting, and it runs", row({ state: "starting" }, { seen: RUNNING }), "→ running"],
    ["starting, and it has ended", row({ state: "starting" }, { seen: EXITED }), "→ failed exited by process"],
    ["starting, and nothing ran", row({ state: "starting" }, { seen: PREPARED }), "start"],
    ["starting, and little is left", row({ state: "starting" }), "clear, prepare"],
    ["starting before the host restarted", row({ state: "starting", boot_id: "other" }), "→ failed host_restarted by host"],
    [
      "prepared before the host restarted may have run",
      row({ state: "starting", boot_id: "other" }, { seen: PREPARED }),
      "→ failed host_restarted by host",
    ],
    ["starting by a journal that cannot be read", row({ state: "starting", boot_id: "" }), "→ failed process_lost by host"],
    [
      "ready before the host restarted: a later line may be lost",
      row({ state: "ready", boot_id: "other" }),
      "→ failed host_restarted by host",
    ],
    ["running, and there is no trace", row({ state: "running" }), "→ failed process_lost by host"],
    ["running before the host restarted", row({ state: "running", boot_id: "other" }), "→ failed host_restarted by host"],
    ["unknown to the journal, and it runs", row({}, { seen: RUNNING }), "→ running"],
    ["ended and not cleaned up", row({ state: "failed" }, unknown), "release"],
    ["ended and cleaned up", row({ state: "failed", released: true }, unknown), "wait"],
  ])("%s", (_, step, expected) => expect(step).toBe(expected))
})

describe("who stops a run", () => {
  const emptied = { code: "node_draining", message: "The node is being emptied." }
  it.each([
    ["the tenant, as a rule", null, "tenant", "stopped"],
    ["the platform, where it says why", emptied, "platform", "node_draining"],
  ])("is %s", (_, stop_reason, by, code) => {
    const record = aRecord({ state: "running", assignment: { desired: "stopped", stop_reason } })
    const facts = { seen: RUNNING, dropped: false, bootId: BOOT, notBeforeMs: 0 }
    expect(advance(record, facts, NOW)).toMatchObject({ record: { stop: { by, reason: { code } } } })
  })
})

describe("a run that is told to stop", () => {
  const stopped = { desired: "stopped" } as const
  const spec = { stop: { timeout_seconds: 10 } }
  it.each([
    ["before it is prepared", row({ assignment: stopped }), "→ stopped stopped by tenant"],
    ["when it is prepared", row({ state: "ready", assignment: stopped }, { seen: PREPARED }), "→ stopped stopped by tenant"],
    [
      "a start that nobody finished",
      row({ state: "starting", assignment: stopped }, { seen: PREPARED }),
      "→ stopped stopped by tenant",
    ],
    [
      "running: the stop is recorded first",
      row({ state: "running", assignment: stopped }, { seen: RUNNING }),
      "→ running stopping",
    ],
    ["then it is asked", row({ state: "running", stop: STOP, assignment: { spec } }, { seen: RUNNING }), "ask"],
    [
      "then it has its time",
      row({ state: "running", stop: SIGNALLED, assignment: { spec } }, { seen: RUNNING }, 4_000),
      "wait 10000",
    ],
    ["then it is killed", row({ state: "running", stop: SIGNALLED, assignment: { spec } }, { seen: RUNNING }, 10_000), "kill"],
    ["and killed again if it hangs", row({ state: "running", stop: KILLED }, { seen: RUNNING }, KILL_REPEAT_MS), "kill"],
    [
      "without time it is killed at once",
      row({ state: "running", stop: STOP, assignment: { ...stopped, stop_timeout_seconds: 0 } }, { seen: RUNNING }),
      "kill",
    ],
    [
      "a second, shorter stop counts from the first signal",
      row(
        { state: "running", stop: SIGNALLED, assignment: { ...stopped, stop_timeout_seconds: 1, spec } },
        { seen: RUNNING },
        1_000,
      ),
      "kill",
    ],
    ["paused, it is thawed before it is asked", row({ state: "running", stop: STOP }, { seen: FROZEN }), "unpause"],
    [
      "paused, it is killed before it is thawed",
      row({ state: "running", stop: { ...STOP, limit_seconds: 0 } }, { seen: FROZEN }),
      "kill",
    ],
    ["and thawed to die", row({ state: "running", stop: KILLED }, { seen: FROZEN }), "unpause"],
    [
      "an end that came first is its own",
      row({ state: "running", assignment: stopped }, { seen: EXITED }),
      "→ failed exited by process",
    ],
    [
      "an end after the stop is the tenant's",
      row({ state: "running", stop: SIGNALLED }, { seen: EXITED }),
      "→ stopped stopped by tenant",
    ],
  ])("%s", (_, step, expected) => expect(step).toBe(expected))
})

describe("a run that must go", () => {
  const removed = { desired: "removed" } as const
  it.each([
    ["running: recorded first", row({ state: "running", assignment: removed }, { seen: RUNNING }), "→ running stopping"],
    ["then killed without being asked", row({ state: "running", stop: STOP, assignment: removed }, { seen: RUNNING }), "kill"],
    ["ended: removed", row({ state: "stopped", released: true, assignment: removed }), "remove"],
    ["never started: its end is reported, then it goes", row({ assignment: removed }), "→ stopped removed by tenant"],
    ["no longer in the platform's set", row({ state: "running" }, { seen: RUNNING, dropped: true }), "remove"],
  ])("%s", (_, step, expected) => expect(step).toBe(expected))
})

describe("pause and lifetime", () => {
  const limited = { spec: { max_lifetime_seconds: 60 } }
  it.each([
    ["is paused", row({ state: "running", assignment: { paused: true } }, { seen: RUNNING }), "pause"],
    ["is resumed", row({ state: "running", paused: true }, { seen: FROZEN }), "unpause"],
    [
      "what was paused behind our back is told",
      row({ state: "running", assignment: { paused: true } }, { seen: FROZEN }),
      "→ running",
    ],
    [
      "waits for the end of its lifetime",
      row({ state: "running", started_at_ms: NOW, assignment: limited }, { seen: RUNNING }),
      "wait 60000",
    ],
    [
      "is stopped at the end of it",
      row({ state: "running", started_at_ms: NOW, assignment: limited }, { seen: RUNNING }, 60_000),
      "→ running stopping",
    ],
  ])("%s", (_, step, expected) => expect(step).toBe(expected))
})

const record = (stop_timeout_seconds: number | null): RunRecord =>
  aRecord({ assignment: { stop_timeout_seconds, spec: { stop: { timeout_seconds: 30 } } } })

it("gives a stop the shortest of what tenant and node allow", () => {
  expect(stopTimeoutSeconds(record(null), STOP)).toBe(30)
  expect(stopTimeoutSeconds(record(5), STOP)).toBe(5)
  expect(stopTimeoutSeconds(record(60), { ...STOP, limit_seconds: 10 })).toBe(10)
})
