import { describe, expect, it } from "vitest"
import {
  ALL_RUN_STATES, ALLOWED_ACTIONS, type Desired, DESIRED, isTerminal, mayMove, type Owner, publicStatus, RUN_STATES, type RunState,
  type Status, STOP_MARGIN_MS, supersedes, TERMINAL_STATES, TRANSITIONS, type WishView,
} from "../../schema/lifecycle.ts" // prettier-ignore

const edges = Object.entries(TRANSITIONS).flatMap(([owner, list]) =>
  list.map(([from, to]) => ({ owner: owner as Owner, from, to })),
)

describe("the transitions of a run", () => {
  it("only rise in rank", () => {
    expect(edges.filter(({ from, to }) => RUN_STATES[to] <= RUN_STATES[from])).toEqual([])
  })

  it("have one owner for each live state, but for the lease", () => {
    for (const state of ALL_RUN_STATES.filter((one) => !isTerminal(one))) {
      const owners = new Set(edges.filter(({ owner, from }) => owner !== "lease" && from === state).map(({ owner }) => owner))
      expect([state, owners.size]).toEqual([state, 1])
    }
    expect(edges.filter(({ owner, to }) => owner === "lease" && to !== "orphaned")).toEqual([])
    expect(RUN_STATES.orphaned).toBe(Math.max(...Object.values(RUN_STATES)))
  })

  it("lead nowhere from a terminal state", () => {
    expect(edges.filter(({ from }) => isTerminal(from))).toEqual([])
  })

  it("may skip steps of one owner, and never one of another", () => {
    expect(mayMove("node", "placed", "running")).toBe(true)
    expect(mayMove("node", "placed", "completed")).toBe(true)
    expect(mayMove("node", "pending", "running")).toBe(false)
    expect(mayMove("node", "running", "orphaned")).toBe(false)
    expect(mayMove("placement", "pending", "placed")).toBe(true)
    expect(mayMove("lease", "pending", "orphaned")).toBe(false)
    expect(mayMove("node", "running", "starting")).toBe(false)
  })
})

describe("two observations of one run", () => {
  it("are ordered by rank, then by revision, and an end is final", () => {
    expect(supersedes({ state: "running", revision: 0 }, { state: "starting", revision: 9 })).toBe(true)
    expect(supersedes({ state: "starting", revision: 9 }, { state: "running", revision: 0 })).toBe(false)
    expect(supersedes({ state: "running", revision: 2 }, { state: "running", revision: 1 })).toBe(true)
    expect(supersedes({ state: "running", revision: 1 }, { state: "running", revision: 1 })).toBe(false)
    expect(supersedes({ state: "failed", revision: 2 }, { state: "failed", revision: 1 })).toBe(false)
  })
})

const aWish = (desired: Desired, changes: Partial<WishView> = {}): WishView => ({
    desired, desiredSinceMs: 500, stopTimeoutSeconds: 10, nextRunAtMs: null, restarting: false, ...changes,
  }) // prettier-ignore
const aRun = (state: RunState, changes = {}) => ({
  state,
  sinceMs: 700,
  paused: false,
  present: true,
  reason: null,
  ...changes,
})

describe("the public status", () => {
  const WHILE_RUNNING: Record<RunState, Status> = {
    pending: "scheduling", placed: "scheduling", accepted: "pulling", preparing: "pulling", ready: "starting", starting: "starting",
    running: "running", completed: "exited", failed: "exited", rejected: "exited", stopped: "exited", orphaned: "lost",
  } // prettier-ignore
  const table = DESIRED.flatMap((desired) =>
    ALL_RUN_STATES.map((state): [Desired, RunState, Status] => {
      const stopped = isTerminal(state) ? WHILE_RUNNING[state] : "stopping"
      return [desired, state, { running: WHILE_RUNNING[state], stopped, removed: "stopping" as const }[desired]]
    }),
  )

  it.each(table)("of a wish %s with a run %s is %s", (desired, state, status) => {
    const answer = publicStatus(aWish(desired), aRun(state))
    expect(answer.status).toBe(status)
    expect(answer.actions).toEqual(ALLOWED_ACTIONS[status])
  })

  it.each([
    ["running", "scheduling"],
    ["stopped", "created"],
    ["removed", "removed"],
  ] as const)("of a wish %s without a run is %s", (desired, status) => {
    expect(publicStatus(aWish(desired), null).status).toBe(status)
  })

  it("is removed once nothing of the run is left", () => {
    for (const state of TERMINAL_STATES) {
      expect(publicStatus(aWish("removed"), aRun(state, { present: false })).status).toBe("removed")
    }
  })

  it("tells paused, restarting and waiting for the next run apart", () => {
    expect(publicStatus(aWish("running"), aRun("running", { paused: true })).status).toBe("paused")
    expect(publicStatus(aWish("running", { restarting: true }), aRun("running")).status).toBe("stopping")
    const waiting = publicStatus(aWish("running", { nextRunAtMs: 900 }), aRun("failed"))
    expect(waiting).toMatchObject({ status: "scheduling", deadlineMs: 900, reason: { code: "restart_backoff" } })
  })

  it("has a deadline while it passes by itself, and none where it lasts", () => {
    expect(publicStatus(aWish("running"), aRun("preparing")).deadlineMs).toBe(700 + 900_000)
    expect(publicStatus(aWish("stopped"), aRun("running")).deadlineMs).toBe(500 + 10_000 + STOP_MARGIN_MS)
    expect(publicStatus(aWish("running"), aRun("running")).deadlineMs).toBeNull()
    expect(publicStatus(aWish("running"), aRun("pending")).deadlineMs).toBeNull()
    expect(publicStatus(aWish("stopped"), aRun("stopped")).deadlineMs).toBeNull()
  })
})
