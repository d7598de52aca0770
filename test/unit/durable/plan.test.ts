import { describe, expect, it } from "vitest"
import { decideAction } from "../../../durable/tenant/actions.ts"
import { passDeadline } from "../../../durable/tenant/deadlines.ts"
import { type Group, latestRun, orphanRun, replaceRun } from "../../../durable/tenant/group.ts"
import { KEPT_ENDED_RUNS, newContainer, OUTBOX_BACKSTOP_MS, settle } from "../../../durable/tenant/plan.ts"
import { afterRun, backoffMs, HEALTHY_RUN_MS, LONGEST_BACKOFF_MS, MAX_LOST_ATTEMPTS } from "../../../durable/tenant/restart.ts"
import { aCreate, anExit, anId } from "../../support/factories.ts"
import { aContainerRow, aGroup, aRunRow } from "../../support/rows.ts"

const NOW = 50_000
const making = { now: NOW, newRunId: () => anId("run"), cell: null }
const ending = (group: Group & { run: { id: string } }, changes = {}) =>
  replaceRun(group, {
    ...aRunRow(group.container),
    ...group.runs[0],
    state: "failed",
    since_ms: NOW,
    finished_at_ms: NOW,
    ...changes,
  })
const types = (events: readonly { type: string }[]) => events.map((event) => event.type)

describe("the back-off", () => {
  it("doubles from 100 ms to five minutes", () => {
    expect([0, 1, 2, 3].map(backoffMs)).toEqual([100, 200, 400, 800])
    expect(backoffMs(100)).toBe(LONGEST_BACKOFF_MS)
  })

  it("begins again after a run that was healthy for ten minutes", () => {
    const container = aContainerRow({ create: { restart: { policy: "always" } }, backoff_step: 7 })
    const healthy = aRunRow(container, { state: "failed", started_at_ms: 0, finished_at_ms: HEALTHY_RUN_MS })
    expect(afterRun(container, healthy, NOW).container).toMatchObject({ next_run_at_ms: NOW + 100, backoff_step: 1 })
    const quick = aRunRow(container, { state: "failed", started_at_ms: 0, finished_at_ms: HEALTHY_RUN_MS - 1 })
    expect(afterRun(container, quick, NOW).container).toMatchObject({ next_run_at_ms: NOW + 12_800, backoff_step: 8 })
  })
})

const next = (restart: object, run: object, container: object = {}) => {
  const row = aContainerRow({ create: { restart }, ...container })
  return afterRun(row, aRunRow(row, run), NOW).container.next_run_at_ms
}

describe("the restart policy", () => {
  it.each([
    ["no", "failed", false],
    ["on-failure", "failed", true],
    ["on-failure", "rejected", true],
    ["on-failure", "completed", false],
    ["on-failure", "stopped", false],
    ["always", "completed", true],
    ["always", "stopped", true],
  ] as const)("%s after a run that %s: restarts is %s", (policy, state, restarts) => {
    expect(next({ policy }, { state }) !== null).toBe(restarts)
  })

  it.each([
    [{ code: "lease_lost" }, "platform", true],
    [{ code: "host_shutdown" }, "host", true],
    [{ code: "lifetime_exceeded" }, "platform", false],
    [{ code: "stopped" }, "tenant", false],
  ] as const)("on-failure: a run that was stopped with %o by the %s restarts: %s", (reason, by, restarts) => {
    const run = { state: "stopped", reason: { message: "", ...reason }, exit: anExit({ code: 143, by }) }
    expect(next({ policy: "on-failure" }, run) !== null).toBe(restarts)
    expect(next({ policy: "no" }, run)).toBeNull()
  })

  it("ends at max_retries", () => {
    expect(next({ policy: "on-failure", max_retries: 2 }, { state: "failed" }, { restarts: 1 })).not.toBeNull()
    expect(next({ policy: "on-failure", max_retries: 2 }, { state: "failed" }, { restarts: 2 })).toBeNull()
  })

  it("never restarts what is stopped by hand", () => {
    expect(next({ policy: "always" }, { state: "stopped" }, { desired: "stopped" })).toBeNull()
  })

  it("replaces a run that was lost with its node at once, where it keeps the container up", () => {
    expect(next({ policy: "on-failure" }, { state: "orphaned" })).toBe(NOW)
    expect(next({ policy: "no" }, { state: "orphaned" })).toBeNull()
  })

  it("places anew what never ran in its time, whatever the policy, but not for ever", () => {
    const late = { state: "orphaned", started_at_ms: null, reason: { code: "deadline_exceeded", message: "late" } }
    expect(next({ policy: "no" }, late)).toBe(NOW)
    expect(next({ policy: "no" }, late, { lost_attempts: MAX_LOST_ATTEMPTS - 1 })).toBeNull()
  })
})

describe("settling a change", () => {
  it("makes the first run of a new container and marks it for placement", () => {
    const { name: _name, start: _start, ...spec } = aCreate()
    const { group, events } = settle(null, newContainer({ id: anId("ctr"), name: null, spec, desired: "running" }, NOW), making)
    expect(latestRun(group)).toMatchObject({ attempt: 1, state: "pending", retry_at_ms: NOW + OUTBOX_BACKSTOP_MS })
    expect(group.container).toMatchObject({ status: "scheduling", active: true, next_run_at_ms: null })
    expect(types(events)).toEqual(["container.scheduling"])
  })

  it("changes nothing when nothing follows", () => {
    const before = settle(null, aGroup(), making).group
    const { group, events } = settle(before, before, making)
    expect(group.container).toBe(before.container)
    expect(group.runs[0]).toBe(before.runs[0])
    expect(events).toEqual([])
  })

  it("gives the reservation of an ended run back and tells its end", () => {
    const before = aGroup()
    const { group, events } = settle(before, ending(before), making)
    expect(group.runs[0]).toMatchObject({ release_due: true })
    expect(group.container).toMatchObject({ status: "exited", active: false })
    expect(types(events)).toEqual(["container.exited"])
  })

  it("keeps the digest of the first run for the next", () => {
    const before = aGroup({ create: { restart: { policy: "always" } } }, { image_digest: "sha256:1" })
    const waiting = settle(before, ending(before), making).group
    const { group } = settle(waiting, waiting, { ...making, now: waiting.container.next_run_at_ms ?? 0 })
    expect(latestRun(group)).toMatchObject({ attempt: 2, image_digest: "sha256:1" })
  })

  it("stops the old run before a restart's new one begins", () => {
    const before = aGroup()
    const decided = decideAction(before, { kind: "restart", timeout_seconds: 3 }, NOW)
    if (!decided.ok || decided.value.kind !== "wish") throw new Error("refused")
    const { group } = settle(before, decided.value.group, making)
    expect(group.runs).toHaveLength(1)
    expect(group.runs[0]).toMatchObject({ wish_desired: "stopped", wish_stop_timeout_seconds: 3, assign_due: true })
    const ended = settle(
      group,
      replaceRun(group, { ...aRunRow(group.container), ...group.runs[0], state: "stopped" }),
      making,
    ).group
    expect(latestRun(ended)).toMatchObject({ attempt: 2, state: "pending" })
    expect(ended.container.restarting).toBe(false)
  })

  it("keeps few ended runs on nodes and lets the older go", () => {
    let group: Group = aGroup({ create: { restart: { policy: "always" } } })
    for (let i = 0; i < KEPT_ENDED_RUNS + 1; i++) {
      const run = latestRun(group)
      if (!run) throw new Error("no run")
      const live = settle(group, replaceRun(group, { ...run, state: "running", node_id: anId("nod") }), making).group
      const last = latestRun(live)
      if (!last) throw new Error("no run")
      const ended = settle(live, replaceRun(live, { ...last, state: "failed" }), making).group
      group = settle(ended, ended, { ...making, now: ended.container.next_run_at_ms ?? NOW }).group
    }
    expect(group.runs.filter((run) => run.wish_desired === "removed")).toHaveLength(1)
    expect(group.runs[0]?.wish_desired).toBe("removed")
  })

  it("removes on exit when that was asked, and waits for the node to clean up", () => {
    const before = aGroup({ create: { remove_on_exit: true } })
    const { group } = settle(before, ending(before, { state: "completed" }), making)
    expect(group.container).toMatchObject({ desired: "removed", status: "stopping", removed_at_ms: null })
    const gone = settle(group, { ...group, runs: group.runs.map((run) => ({ ...run, present: false })) }, making)
    expect(gone.group.container).toMatchObject({ status: "removed", removed_at_ms: NOW })
    expect(types(gone.events)).toEqual(["container.removed"])
  })

  it("removes it when it is stopped by hand as well", () => {
    const before = aGroup({ create: { remove_on_exit: true } })
    const stopping = settle(before, { ...before, container: { ...before.container, desired: "stopped" } }, making).group
    const { group } = settle(stopping, ending({ ...stopping, run: before.run }, { state: "stopped" }), making)
    expect(group.container).toMatchObject({ desired: "removed", status: "stopping" })
  })

  it("says when it gives up, and keeps how its runs ended", () => {
    const late = { code: "deadline_exceeded", message: "too late" }
    const before = aGroup({ lost_attempts: MAX_LOST_ATTEMPTS - 1 }, { state: "placed", started_at_ms: null })
    const { group, events } = settle(before, replaceRun(before, orphanRun(before.run, late, NOW)), making)
    expect(types(events)).toEqual(["container.lost", "container.gave_up"])
    expect(group.container).toMatchObject({ status: "lost", next_run_at_ms: null })
    expect(group.container.history).toMatchObject([
      { run_id: before.run.id, attempt: 1, state: "orphaned", reason: { code: "gave_up" } },
    ])
  })

  it("has the node of an orphan destroy it", () => {
    const before = aGroup()
    const { group } = settle(before, replaceRun(before, orphanRun(before.run, { code: "node_lost", message: "" }, NOW)), making)
    expect(group.runs[0]).toMatchObject({ wish_desired: "removed", assign_due: true, present: false })
    expect(group.container.status).toBe("lost")
  })
})

describe("a deadline", () => {
  it("that has not passed changes nothing", () => {
    const group = aGroup({}, { state: "placed", since_ms: NOW })
    expect(passDeadline(group, NOW + 29_999)).toEqual({ group, events: [] })
  })

  it("gives up a run that is too long in one state", () => {
    const group = aGroup({}, { state: "placed", since_ms: NOW, started_at_ms: null })
    const { group: after, events } = passDeadline(group, NOW + 30_000)
    expect(after.runs[0]).toMatchObject({ state: "orphaned", reason: { code: "deadline_exceeded" } })
    expect(types(events)).toEqual(["container.deadline_passed"])
  })

  it("of a removal does not wait for a node for ever", () => {
    const group = aGroup({ desired: "removed", desired_since_ms: 0, stop_timeout_seconds: 0 }, { state: "stopped" })
    const after = passDeadline(group, NOW).group
    expect(settle(group, after, making).group.container.status).toBe("removed")
  })
})
