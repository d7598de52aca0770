/**
 * The bridge dies before or after every single thing it does, and the next one takes over: each life of a run converges,
 * starts its process once, and leaves nothing behind. The host (the fake controller) goes on meanwhile, as real ones do.
 */
import { readdir } from "node:fs/promises"
import { describe, expect, it } from "vitest"
import { Assignments } from "../../../node-bridge/agent/assignments.ts"
import { Journal } from "../../../node-bridge/agent/journal.ts"
import { Reporter } from "../../../node-bridge/agent/reporter.ts"
import { semaphore } from "../../../node-bridge/agent/semaphore.ts"
import { silentLog } from "../../../node-bridge/log.ts"
import type { Controller } from "../../../node-bridge/runtime/controller.ts"
import { createFakeController } from "../../../node-bridge/runtime/fake-controller.ts"
import type { FakeController } from "../../../node-bridge/runtime/fake-controller.ts"
import { systemTimers } from "../../../node-bridge/timers.ts"
import { isTerminal } from "../../../schema/lifecycle.ts"
import type { RunState } from "../../../schema/lifecycle.ts"
import type { Assignment, Observation } from "../../../schema/protocol.ts"
import { anAssignment, BOOT } from "../../support/assignments.ts"
import { temporaryDir } from "../../support/temporary-dir.ts"

const COUNTED = new Set([
  "prepare",
  "start",
  "inspect",
  "signal",
  "pause",
  "unpause",
  "setNetwork",
  "release",
  "remove",
  "write",
  "forget",
])

/** One life of a bridge: at its n-th deed it dies, and nothing that it still meant to do happens. */
class Life {
  deeds = 0
  dead = false
  readonly trail: string[] = []
  readonly #underWay: unknown[] = []
  readonly #at: number
  readonly #when: "before" | "after"
  constructor(at: number, when: "before" | "after") {
    this.#at = at
    this.#when = when
  }
  wrap<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name)
        if (typeof value !== "function") return value
        return (...args: unknown[]) => this.#call(String(name), () => Reflect.apply(value, target, args) as unknown)
      },
    })
  }
  #call(name: string, run: () => unknown): unknown {
    if (this.dead) return this.#never(name)
    if (!COUNTED.has(name)) return run()
    this.trail.push(name)
    this.deeds += 1
    const last = this.deeds === this.#at
    if (last && this.#when === "before") return this.#die(name)
    const result = run()
    this.#underWay.push(result)
    if (!last) return result
    return result instanceof Promise ? result.then(() => this.#die(name)) : this.#die(name)
  }
  /** What the kernel was asked to do is done, whoever asked is dead or not. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#underWay)
  }
  #die(name: string): Promise<never> {
    this.dead = true
    return this.#never(name)
  }
  /** A verb of a dead bridge never comes back; a line that it writes is just not there. */
  #never(name: string): Promise<never> {
    if (name === "write") throw new Error("dead")
    return new Promise(() => {})
  }
}

interface World {
  readonly dir: string
  readonly host: FakeController
  readonly seen: Observation[]
  wish: Assignment
  gone: boolean
}

async function bridge(world: World, life: Life): Promise<Assignments> {
  const { journal, loaded } = await Journal.open(world.dir, BOOT)
  const controller: Controller = life.wrap<Controller>(world.host)
  const reporter = new Reporter(systemTimers)
  const onHost = new Set(await world.host.list())
  const assignments = new Assignments(
    {
      controller,
      journal: life.wrap(journal),
      starts: semaphore(2),
      timers: systemTimers,
      log: silentLog,
      bootId: BOOT,
      reporter,
      heed: () => {},
      health: { succeeded: () => {}, failed: () => {} },
      onComplete: () => {},
    },
    { onHost, unreadable: new Set(loaded.unreadable), incomplete: loaded.incomplete },
  )
  assignments.adopt(loaded.records)
  reporter.attach((report) => {
    if (life.dead) return
    world.seen.push(...report.observations)
    if (report.gone.includes(world.wish.run_id)) world.gone = true
    reporter.acknowledged(report.seq)
  })
  assignments.complete(world.gone ? [] : [world.wish])
  return assignments
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never came: ${what}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

interface Story {
  readonly name: string
  readonly env: Record<string, string>
  /** The wishes, each made when the one before has led to its state. */
  readonly chapters: readonly {
    readonly wish: Partial<Assignment>
    readonly leadsTo: (last: Observation, world: World) => boolean
  }[]
  readonly ends: RunState
  readonly starts: number
}

const is = (state: RunState) => (last: Observation) => last.state === state
const STORIES: Story[] = [
  {
    name: "runs, is stopped, is removed",
    env: {},
    chapters: [
      { wish: {}, leadsTo: is("running") },
      { wish: { desired: "stopped" }, leadsTo: is("stopped") },
      { wish: { desired: "removed" }, leadsTo: (_, world) => world.gone },
    ],
    ends: "stopped",
    starts: 1,
  },
  {
    name: "ends by itself",
    env: { FAKE_RUN_FOR_MS: "0", FAKE_EXIT_CODE: "3" },
    chapters: [
      { wish: {}, leadsTo: is("failed") },
      { wish: { desired: "removed" }, leadsTo: (_, world) => world.gone },
    ],
    ends: "failed",
    starts: 1,
  },
  {
    name: "is paused, and killed while paused",
    env: {},
    chapters: [
      { wish: {}, leadsTo: is("running") },
      { wish: { paused: true }, leadsTo: (last) => last.paused },
      { wish: { paused: true, desired: "removed" }, leadsTo: (_, world) => world.gone },
    ],
    ends: "stopped",
    starts: 1,
  },
  {
    name: "has its network changed",
    env: {},
    chapters: [
      { wish: {}, leadsTo: is("running") },
      {
        wish: { spec: anAssignment({ spec: { network: { egress: "none" } } }).spec },
        leadsTo: (_, { host, wish }) => host.networkOf(wish.run_id)?.egress === "none",
      },
      { wish: { desired: "removed" }, leadsTo: (_, world) => world.gone },
    ],
    ends: "stopped",
    starts: 1,
  },
  {
    name: "cannot be prepared",
    env: { FAKE_PREPARE_ERROR: "image_not_found" },
    chapters: [
      { wish: {}, leadsTo: is("rejected") },
      { wish: { desired: "removed" }, leadsTo: (_, world) => world.gone },
    ],
    ends: "rejected",
    starts: 0,
  },
]

/** Tells one story, with one crash at the given deed; answers how many deeds there were. */
async function tell(story: Story, at: number, when: "before" | "after"): Promise<number> {
  await using dir = await temporaryDir()
  const host = await createFakeController({ dir: null, timers: systemTimers })
  const world: World = { dir: dir.path, host, seen: [], wish: anAssignment({ spec: { env: story.env } }), gone: false }
  let life = new Life(at, when)
  let assignments = await bridge(world, life)
  const hasLed = (chapter: Story["chapters"][number]) => {
    const last = world.seen.at(-1)
    return last !== undefined && chapter.leadsTo(last, world)
  }
  for (const chapter of story.chapters) {
    world.wish = { ...world.wish, ...chapter.wish }
    assignments.increment([world.wish], [])
    await until(`${story.name}: ${JSON.stringify(chapter.wish)} after ${life.trail.join()}`, () => life.dead || hasLed(chapter))
    if (life.dead) {
      await life.settled()
      life = new Life(Number.POSITIVE_INFINITY, "after")
      assignments = await bridge(world, life)
      await until(`${story.name}, second life: ${JSON.stringify(chapter.wish)}`, () => hasLed(chapter))
    }
  }
  // The last crash may have come between the report and the end of cleaning up.
  await until("a clean host", () => assignments.all.length === 0)
  const ends = world.seen.filter(({ state }) => isTerminal(state))
  expect(new Set(ends.map(({ state }) => state))).toEqual(new Set([story.ends]))
  expect(await host.list()).toEqual([])
  expect(host.everStarted).toBe(story.starts)
  expect(await readdir(dir.path)).toEqual(["boot"])
  await assignments.close()
  await host.close()
  return life.deeds
}

describe.each(STORIES)("a run that $name", (story) => {
  it("converges when the bridge dies before or after any of its deeds", async () => {
    const deeds = await tell(story, Number.POSITIVE_INFINITY, "after")
    expect(deeds).toBeGreaterThan(3)
    for (let at = 1; at <= deeds; at++) {
      for (const when of ["before", "after"] as const) await tell(story, at, when)
    }
  }, 60_000)
})
