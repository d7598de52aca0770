import { describe, expect, it } from "vitest"
import { ended, gaveUp, lost, stoppedBeforeStart } from "../../../node-bridge/agent/endings.ts"
import type { Outcome } from "../../../node-bridge/runtime/controller.ts"
import { aRecord, NOW } from "../../support/assignments.ts"

const outcome = (exit: Partial<Outcome["exit"]>, host_fault: Outcome["host_fault"] = null): Outcome => ({
  exit: { code: 0, signal: null, oom_killed: false, log_tail: ["bye"], ...exit },
  finished_at_ms: NOW + 7,
  host_fault,
})
const running = aRecord({
  state: "running",
  started_at_ms: NOW,
  assignment: { spec: { resources: { cpus: 1, memory_bytes: 64 * 1024 ** 2, pids: 10 } } },
})
const stop = (by: "tenant" | "platform" | "host", code: string) => ({
  ...running,
  stop: {
    by,
    reason: { code, message: "Told." },
    limit_seconds: null,
    asked_at_ms: NOW,
    signalled_at_ms: NOW,
    killed_at_ms: null,
  },
})
const KILLED = { code: 137, signal: "SIGKILL" }

describe("how a run ended", () => {
  it.each([
    ["well", ended(running, outcome({}), NOW), "completed", "process", "exited", "The process exited with code 0."],
    ["with a code", ended(running, outcome({ code: 3 }), NOW), "failed", "process", "exited", "The process exited with code 3."],
    [
      "by a signal",
      ended(running, outcome({ code: 139, signal: "SIGSEGV" }), NOW),
      "failed",
      "process",
      "signaled",
      "The process was ended by SIGSEGV.",
    ],
    [
      "out of memory",
      ended(running, outcome({ ...KILLED, oom_killed: true }), NOW),
      "failed",
      "process",
      "oom_killed",
      "The process was killed because it used more than its 64 MiB of memory.",
    ],
    [
      "well though a child ran out of memory",
      ended(running, outcome({ oom_killed: true }), NOW),
      "completed",
      "process",
      "exited",
      "The process exited with code 0.",
    ],
    [
      "with its code lost",
      ended(running, outcome({ code: null }), NOW),
      "failed",
      "process",
      "exit_code_lost",
      "The process ended, and its exit code was lost.",
    ],
    [
      "by the tenant's stop",
      ended(stop("tenant", "stopped"), outcome({ code: 143, signal: "SIGTERM" }), NOW),
      "stopped",
      "tenant",
      "stopped",
      "Told. The process was ended by SIGTERM.",
    ],
    [
      "by the platform",
      ended(stop("platform", "lease_lost"), outcome(KILLED), NOW),
      "stopped",
      "platform",
      "lease_lost",
      "Told. The process was ended by SIGKILL.",
    ],
    [
      "by the tenant's own signal",
      ended({ ...running, tenant_signal: "SIGKILL" as const }, outcome(KILLED), NOW),
      "failed",
      "tenant",
      "signaled",
      "The process was ended by SIGKILL.",
    ],
    [
      "by another signal than the tenant's",
      ended({ ...running, tenant_signal: "SIGHUP" as const }, outcome(KILLED), NOW),
      "failed",
      "process",
      "signaled",
      "The process was ended by SIGKILL.",
    ],
    [
      "by the host",
      ended(running, outcome({ code: null }, { code: "monitor_lost", message: "Gone." }), NOW),
      "failed",
      "host",
      "monitor_lost",
      "Gone.",
    ],
  ])("%s", (_, record, state, by, code, message) => {
    expect(record).toMatchObject({
      state,
      exit: { by },
      reason: { code, message },
      finished_at_ms: NOW + 7,
      revision: running.revision + 1,
    })
  })

  it("says that it had not started", () => {
    const record = stoppedBeforeStart({ ...stop("tenant", "stopped"), state: "ready" }, NOW)
    expect(record).toMatchObject({
      state: "stopped",
      exit: { by: "tenant", code: null },
      reason: { message: "Told. It had not started yet." },
    })
  })

  it("is rejected before it starts and failed from then on", () => {
    const reason = { code: "image_not_found", message: "There is no such image." }
    expect(gaveUp(aRecord({ state: "preparing" }), reason, null, NOW)).toMatchObject({ state: "rejected", reason, exit: null })
    expect(gaveUp(aRecord({ state: "starting" }), reason, null, NOW)).toMatchObject({ state: "failed", reason, exit: null })
    expect(gaveUp(aRecord({ state: "starting" }), reason, 127, NOW)).toMatchObject({ exit: { code: 127, by: "process" } })
  })

  it("tells a restart of the host from a lost process", () => {
    expect(lost(running, true, NOW)).toMatchObject({ state: "failed", exit: { by: "host" }, reason: { code: "host_restarted" } })
    expect(lost(running, false, NOW)).toMatchObject({ state: "failed", exit: { by: "host" }, reason: { code: "process_lost" } })
  })
})
