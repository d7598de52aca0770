/** What holds of a container whatever its tenant, its nodes, its cells and the time do to it, in whatever order. */
import { array, assert as holds, boolean, constant, constantFrom, integer, oneof, property, record } from "fast-check"
import { describe, expect, it } from "vitest"
import { decideAction } from "../../../durable/tenant/actions.ts"
import { nextWake, passDeadline } from "../../../durable/tenant/deadlines.ts"
import { cutOff, evacuate } from "../../../durable/tenant/evacuation.ts"
import { type Group, latestRun, mayLive, orphanRun, replaceRun } from "../../../durable/tenant/group.ts"
import { mergeGone, mergeObservation } from "../../../durable/tenant/observe.ts"
import type { Changed } from "../../../durable/tenant/placing.ts"
import { newContainer, settle } from "../../../durable/tenant/plan.ts"
import type { RunRow } from "../../../durable/tenant/rows.ts"
import { isTerminal, RUN_STATES } from "../../../schema/lifecycle.ts"
import { aCreate, anExit, anId, anObservation } from "../../support/factories.ts"

const REASON = { code: "test", message: "by the test" }
const WISHES = ["running", "stopped", "removed"]

const which = integer({ min: 0, max: 2 })
const aStep = oneof(
  record({ kind: constant("act" as const), action: constantFrom("start", "stop", "restart", "remove") }),
  record({ kind: constant("place" as const), which }),
  record({
    kind: constant("observe" as const),
    which,
    state: constantFrom("accepted", "running", "completed", "failed", "stopped"),
  }),
  record({ kind: constant("gone" as const), which }),
  record({ kind: constant("orphan" as const), which }),
  record({ kind: constant("evacuate" as const), which, atOnce: boolean() }),
  record({ kind: constant("cut_off" as const), which, off: boolean() }),
  record({ kind: constant("time" as const), ms: constantFrom(50, 5_000, 31_000, 1_000_000) }),
)
type Step = typeof aStep extends { generate: (...args: never[]) => { value: infer S } } ? S : never

function change(group: Group, step: Step, now: number): Changed {
  const same = { group, events: [] }
  const live = group.runs.filter((run) => !isTerminal(run.state))
  const on = (run: RunRow | undefined, changed: RunRow | undefined) =>
    run && changed ? { group: replaceRun(group, changed), events: [] } : same
  switch (step.kind) {
    case "act": {
      const action = step.action === "remove" ? { kind: "remove" as const, force: false } : step.action === "start" ? { kind: "start" as const } : { kind: step.action as "stop" | "restart", timeout_seconds: null } // prettier-ignore
      const decided = decideAction(group, action, now)
      return decided.ok && decided.value.kind === "wish" ? { group: decided.value.group, events: [] } : same
    }
    case "place": {
      const run = group.runs.filter(({ state }) => state === "pending")[step.which]
      return on(run, run && { ...run, state: "placed", node_id: anId("nod"), cell_id: anId("cel"), since_ms: now })
    }
    case "observe": {
      const run = live.filter(({ node_id }) => node_id !== null)[step.which]
      const ended = isTerminal(step.state as RunRow["state"])
      const seen = anObservation(run?.id ?? anId("run"), { state: step.state as never, revision: (run?.revision ?? 0) + 1, at_ms: now, exit: ended ? anExit() : null }) // prettier-ignore
      return on(run, run && mergeObservation(run, seen, now))
    }
    case "gone": {
      const run = group.runs.filter(({ node_id }) => node_id !== null)[step.which]
      return on(run, run && mergeGone(run, now))
    }
    case "orphan": {
      const run = live.filter(({ node_id }) => node_id !== null)[step.which]
      return on(run, run && orphanRun(run, REASON, now))
    }
    case "evacuate": {
      const run = live.filter(({ node_id }) => node_id !== null)[step.which]
      return run ? evacuate(group, run, REASON, step.atOnce, now) : same
    }
    case "cut_off": {
      const run = live.filter(({ node_id }) => node_id !== null)[step.which]
      return run ? cutOff(group, run, step.off ? REASON : null) : same
    }
    case "time":
      return passDeadline(group, now)
  }
}

const aSpec = record({
  restart: constantFrom("no", "on-failure", "always"),
  drain: constantFrom("stop_first", "start_first"),
  on_partition: constantFrom("stop", "keep"),
})

describe("a container, whatever happens to it", () => {
  it("has one run at most that may live, and one more only to take over in a drain; told to stop, none goes on", () => {
    holds(
      property(aSpec, array(aStep, { minLength: 5, maxLength: 60 }), ({ restart, ...wish }, steps) => {
        const { name: _n, start: _s, ...spec } = aCreate({ restart: { policy: restart as "no" }, ...(wish as object) })
        let now = 1_000
        const making = () => ({ now, newRunId: () => anId("run"), cell: null })
        let { group } = settle(null, newContainer({ id: anId("ctr"), name: null, spec, desired: "running" }, now), making())
        const released = new Map<string, number>()
        for (const one of steps) {
          now += one.kind === "time" ? one.ms : 1
          const before = group
          const changed = change(group, one, now)
          group = settle(before, changed.group, making(), changed.events).group
          const may = group.runs.filter(mayLive)
          expect(may.length).toBeLessThanOrEqual(wish.drain === "start_first" ? 2 : 1)
          // A run that is made beside another is for one that leaves, or has left.
          if (may.length === 2) expect(group.runs.some((run) => run.evacuating !== null)).toBe(true)
          for (const run of group.runs) {
            const old = before.runs.find(({ id }) => id === run.id)
            if (old) expect(WISHES.indexOf(run.wish_desired)).toBeGreaterThanOrEqual(WISHES.indexOf(old.wish_desired))
            if (old) expect(RUN_STATES[run.state]).toBeGreaterThanOrEqual(RUN_STATES[old.state])
            if (isTerminal(run.state) && !(old && isTerminal(old.state))) released.set(run.id, (released.get(run.id) ?? 0) + Number(run.release_due)) // prettier-ignore
          }
          const latest = latestRun(group)
          if (group.container.desired !== "running") {
            expect(group.runs.filter((run) => run.state === "pending")).toEqual([])
            for (const run of group.runs)
              if (run.node_id !== null && !isTerminal(run.state)) expect(run.wish_desired).not.toBe("running")
          }
          expect(group.container.active || !group.runs.some((run) => !isTerminal(run.state))).toBe(true)
          if (one.kind === "time") {
            const at = nextWake(group)
            if (at !== null) expect(at).toBeGreaterThan(now)
          }
          expect(latest === undefined || group.runs.includes(latest)).toBe(true)
        }
        for (const times of released.values()) expect(times).toBe(1)
      }),
      { numRuns: 600 },
    )
  })
})
