import { describe, expect, it } from "vitest"
import { nextWake, passDeadline } from "../../../durable/tenant/deadlines.ts"
import { cutOff, evacuate } from "../../../durable/tenant/evacuation.ts"
import { type Group, latestRun, replaceRun, successorOf } from "../../../durable/tenant/group.ts"
import { settle } from "../../../durable/tenant/plan.ts"
import { MAX_LOST_ATTEMPTS } from "../../../durable/tenant/restart.ts"
import type { RunRow } from "../../../durable/tenant/rows.ts"
import { containerView } from "../../../durable/tenant/view.ts"
import { STATE_DEADLINES_MS, STOP_MARGIN_MS } from "../../../schema/lifecycle.ts"
import { Policy } from "../../../schema/api.ts"
import type { ContainerCreate } from "../../../schema/container.ts"
import { anExit, anId } from "../../support/factories.ts"
import { aGroup } from "../../support/rows.ts"

const NOW = 50_000
const DRAINING = { code: "node_draining", message: "The node is being emptied." }
const types = (events: readonly { type: string }[]) => events.map((event) => event.type)

/** A container that runs, and what is done to it, step by step, each settled. */
class Story {
  group: Group
  now = NOW
  readonly told: string[] = []

  constructor(create: Partial<ContainerCreate>, run: Partial<RunRow> = {}) {
    const group = aGroup({ create }, run)
    this.group = this.#settle(group, group, [])
  }

  get latest(): RunRow {
    const run = latestRun(this.group)
    if (!run) throw new Error("no run")
    return run
  }
  get successor(): RunRow {
    const run = successorOf(this.group)
    if (!run) throw new Error("no successor")
    return run
  }

  evacuate(run = this.latest, atOnce = false): this {
    return this.#change(evacuate(this.group, run, DRAINING, atOnce, this.now))
  }
  cutOff(reason: typeof DRAINING | null): this {
    return this.#change(cutOff(this.group, this.latest, reason))
  }
  /** What a node or a cell says of a run. */
  becomes(run: RunRow, changes: Partial<RunRow>): this {
    const known = this.group.runs.find((one) => one.id === run.id) ?? run
    return this.#change({ group: replaceRun(this.group, { ...known, since_ms: this.now, ...changes }), events: [] })
  }
  placed(run: RunRow): this {
    return this.becomes(run, { state: "placed", node_id: anId("nod"), cell_id: anId("cel") })
  }
  ends(run: RunRow, state: "stopped" | "failed" | "completed" | "orphaned" = "stopped", changes: Partial<RunRow> = {}): this {
    return this.becomes(run, { state, finished_at_ms: this.now, exit: anExit({ by: "tenant" }), ...changes })
  }
  wish(changes: Partial<Group["container"]>): this {
    return this.#change({ group: { ...this.group, container: { ...this.group.container, ...changes } }, events: [] })
  }
  later(ms: number): this {
    this.now += ms
    return this.#change(passDeadline(this.group, this.now))
  }

  #change(changed: { group: Group; events: readonly { type: string }[] }): this {
    this.group = this.#settle(this.group, changed.group, changed.events)
    return this
  }
  #settle(before: Group, draft: Group, events: readonly { type: string }[]): Group {
    const settled = settle(before, draft, { now: this.now, newRunId: () => anId("run"), cell: null }, events as never)
    this.told.push(...types(settled.events))
    return settled.group
  }
}

describe("a node that is emptied", () => {
  it("has a run stopped and made anew elsewhere, at once and without a back-off", () => {
    const story = new Story({ restart: { policy: "always" } }).evacuate()
    const first = story.latest
    expect(first).toMatchObject({ wish_desired: "stopped", assign_due: true })
    expect(story.group.container).toMatchObject({ status: "stopping", restarts: 0 })
    story.ends(first)
    expect(story.latest).toMatchObject({ state: "pending", attempt: 2 })
    expect(story.group.container).toMatchObject({ status: "scheduling", restarts: 0, backoff_step: 0 })
    expect(story.told).toEqual(["container.draining", "container.stopping", "container.exited", "container.scheduling"])
    expect(story.group.container.history).toMatchObject([{ run_id: first.id, state: "stopped", reason: DRAINING }])
  })

  it("is told once, however often it is asked", () => {
    const story = new Story({ restart: { policy: "always" } }).evacuate().evacuate().evacuate(undefined, true)
    expect(story.told.filter((type) => type === "container.draining")).toHaveLength(1)
  })

  it("leaves what no policy would start again until the deadline, and does not start it again then", () => {
    const story = new Story({}).evacuate()
    expect(story.latest.wish_desired).toBe("running")
    expect(story.group.container.status).toBe("running")
    story.evacuate(undefined, true)
    expect(story.latest.wish_desired).toBe("stopped")
    story.ends(story.latest)
    expect(story.group.container).toMatchObject({ status: "exited", active: false })
    expect(story.latest.reason).toEqual(DRAINING)
    expect(story.group.runs).toHaveLength(1)
  })

  it("places anew what never came to run, whatever its policy", () => {
    const story = new Story({}, { state: "preparing", started_at_ms: null }).evacuate(undefined, true)
    story.ends(story.latest)
    expect(story.latest).toMatchObject({ state: "pending", attempt: 2 })
  })

  it("does not place anew what was lost with its node before it was heard of: it may have run", () => {
    const story = new Story({}, { state: "preparing", started_at_ms: null }).evacuate(undefined, true)
    story.ends(story.latest, "orphaned", { exit: null, reason: { code: "lease_expired", message: "Its node fell silent." } })
    expect(story.group.runs).toHaveLength(1)
    expect(story.group.container).toMatchObject({ status: "lost", restarting: false })
  })

  it("leaves alone what the tenant has stopped itself", () => {
    const story = new Story({ restart: { policy: "always" } }).wish({ desired: "stopped" }).evacuate()
    story.ends(story.latest)
    expect(story.group.container.status).toBe("exited")
    expect(story.latest.reason).toBeNull()
  })
})

describe("start_first", () => {
  const create: Partial<ContainerCreate> = { restart: { policy: "always" }, drain: "start_first" }

  it("starts the next run before it stops the old one, and the container runs all the while", () => {
    const story = new Story(create).evacuate()
    const [old, next] = [story.latest, story.successor]
    expect(next).toMatchObject({ state: "pending", attempt: 2 })
    expect(story.group.container.status).toBe("running")
    story.placed(next)
    expect(story.group.runs.map((run) => run.wish_desired)).toEqual(["running", "running"])
    story.becomes(next, { state: "running", started_at_ms: story.now })
    expect(story.latest.id).toBe(next.id)
    expect(story.group.runs.map((run) => run.wish_desired)).toEqual(["stopped", "running"])
    story.ends(old)
    expect(story.group.container).toMatchObject({ status: "running", active: true, restarts: 0 })
    expect(story.group.runs.find((run) => run.id === old.id)).toMatchObject({ release_due: true })
    expect(story.told).toEqual(["container.draining", "container.scheduling", "container.running", "container.exited"])
  })

  it("counts once against the quota while both run", () => {
    const story = new Story(create).evacuate()
    expect(story.group.container.active).toBe(true)
    expect(story.group.runs).toHaveLength(2)
  })

  it("keeps the old run when the next one fails, and tries again, but not for ever", () => {
    const story = new Story(create).evacuate()
    for (let failed = 1; failed < MAX_LOST_ATTEMPTS; failed++) {
      story.placed(story.successor).ends(story.successor, "failed")
      expect(successorOf(story.group)).toBeUndefined()
      expect(story.group.container).toMatchObject({ status: "running", lost_attempts: failed })
      expect(nextWake(story.group)).toBe(story.group.container.next_run_at_ms)
      story.later(60_000)
    }
    story.placed(story.successor).ends(story.successor, "failed").later(3_600_000).evacuate()
    expect(successorOf(story.group)).toBeUndefined()
    expect(story.group.container).toMatchObject({ status: "running", next_run_at_ms: null })
    expect(story.latest.state).toBe("running")
  })

  it("has the next run take over when the old one ends first", () => {
    const story = new Story(create).evacuate()
    const next = story.successor
    story.ends(story.latest, "failed")
    expect(story.latest.id).toBe(next.id)
    expect(story.group.container).toMatchObject({ status: "scheduling", next_run_at_ms: null })
    expect(story.group.runs.filter((run) => run.state === "pending")).toHaveLength(1)
  })

  it("drops the next run when the old one comes to its end for good", () => {
    const story = new Story({ ...create, restart: { policy: "on-failure" } }).evacuate()
    const next = story.successor
    story.ends(story.latest, "completed")
    expect(story.group.container).toMatchObject({ status: "exited", active: false })
    expect(story.group.runs.find((run) => run.id === next.id)).toMatchObject({ state: "stopped", release_due: true })
  })

  it("stops both when the tenant stops the container, and starts no third beside them", () => {
    const story = new Story(create).evacuate()
    const [old, next] = [story.latest, story.successor]
    story.placed(next).wish({ desired: "stopped", desired_since_ms: story.now })
    expect(story.group.runs.map((run) => run.wish_desired)).toEqual(["stopped", "stopped"])
    story.ends(old).wish({ desired: "running", next_run_at_ms: story.now })
    expect(story.group.runs.filter((run) => run.state === "pending")).toHaveLength(0)
    expect(story.group.runs.find((run) => run.id === next.id)?.wish_desired).toBe("stopped")
    story.ends(next)
    expect(story.latest).toMatchObject({ state: "pending", attempt: 3 })
  })

  it("stops the old run at the deadline, and has the one that was made take its place", () => {
    const story = new Story(create).evacuate()
    const next = story.successor
    story.evacuate(undefined, true)
    expect(story.latest.wish_desired).toBe("stopped")
    story.ends(story.latest)
    expect(story.latest.id).toBe(next.id)
    expect(story.group.runs.filter((run) => run.state === "pending")).toHaveLength(1)
  })

  it("gives up a run that stays too long in a step, and one that does not stop after the next took over", () => {
    const story = new Story(create).evacuate()
    const [old, next] = [story.latest, story.successor]
    story.placed(next)
    expect(story.group.container.wake_at_ms).toBe(story.now + STATE_DEADLINES_MS.placed)
    story.later(STATE_DEADLINES_MS.placed)
    expect(story.told).toContain("container.deadline_passed")
    expect(story.group.container.status).toBe("running")
    story.later(60_000)
    story.placed(story.successor).becomes(story.successor, { state: "running", started_at_ms: story.now })
    story.later(10_000 + STOP_MARGIN_MS)
    expect(story.group.runs.find((run) => run.id === old.id)).toMatchObject({ state: "orphaned", wish_desired: "removed" })
  })
})

describe("a node that is cut off", () => {
  const keep: Partial<ContainerCreate> = { restart: { policy: "always" }, on_partition: "keep" }
  const reason = { code: "node_unreachable", message: "not heard of" }

  it("is told with the container's status, until it is back", () => {
    const story = new Story(keep).cutOff(reason)
    const view = () => containerView(story.group.container, story.latest, Policy.parse({}))
    expect(view()).toMatchObject({ status: "running", reason: { code: "node_unreachable" } })
    story.cutOff(reason).cutOff(null)
    expect(view()).toMatchObject({ status: "running", reason: null })
    expect(story.told).toEqual(["container.unreachable", "container.reachable"])
  })

  it("has no run that is kept there given up by a deadline", () => {
    const story = new Story(keep, { state: "starting", started_at_ms: null }).cutOff(reason).later(3_600_000)
    expect(story.latest.state).toBe("starting")
    expect(story.group.container.wake_at_ms).toBeNull()
  })

  it("has a kept run replaced only once its node has said that it is gone", () => {
    const story = new Story(keep, { state: "starting", started_at_ms: null, since_ms: NOW })
    story.later(STATE_DEADLINES_MS.starting)
    expect(story.latest).toMatchObject({ state: "orphaned", present: true, wish_desired: "removed" })
    expect(story.group.runs).toHaveLength(1)
    expect(story.group.container.wake_at_ms).toBeNull()
    story.becomes(story.latest, { present: false })
    expect(story.latest).toMatchObject({ state: "pending", attempt: 2 })
  })
})
