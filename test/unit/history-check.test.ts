/** The checker of chaos tests must itself be seen to catch what it is for: one planted violation for each of its rules. */
import { describe, expect, it } from "vitest"
import type { CellId, ContainerId, NodeId, RunId, TenantId } from "../../schema/ids.ts"
import { check, RULES, type Rule } from "../support/history-check.ts"
import type { Entry, Final, FinalContainer, FinalEvent, Happening, History } from "../support/history.ts"

const tenant = "ten_1" as TenantId
const [web, job] = ["ctr_web", "ctr_job"] as [ContainerId, ContainerId]
const [web1, web2, job1, job2] = ["run_web1", "run_web2", "run_job1", "run_job2"] as [RunId, RunId, RunId, RunId]
const [a, b] = ["nod_a", "nod_b"] as [NodeId, NodeId]
const cell = "cel_1" as CellId
const MIB = 1024 ** 2
const amount = { cpus: 0.5, memory_bytes: 64 * MIB }

const at = (at_ms: number, happening: Happening): Entry => ({ ...happening, at_ms })
const asked = (at_ms: number, key: string, container: ContainerId, restart: "no" | "always") =>
  at(at_ms, { kind: "asked", tenant, key, container, start: true, restart, remove_on_exit: false, asks: amount })
const runs = (at_ms: number, run: RunId, container: ContainerId, node: NodeId): Entry[] => [
  at(at_ms, { kind: "reserved", run, cell, node, amount }),
  at(at_ms + 1, { kind: "accepted", run, container, node }),
  at(at_ms + 2, { kind: "started", run, container, tenant, node }),
  at(at_ms + 3, { kind: "reported", run, node, state: "running" }),
]
const ends = (at_ms: number, run: RunId, node: NodeId): Entry[] => [
  at(at_ms, { kind: "exited", run, node }),
  at(at_ms + 1, { kind: "credited", run, cell }),
  at(at_ms + 2, { kind: "destroyed", run, node }),
]

/** A service that lost its node, was replaced and lives; a job that ran once and was removed. */
const entries: readonly Entry[] = [
  at(0, { kind: "quota", tenant, containers: 2, limit: { cpus: 1, memory_bytes: 128 * MIB } }),
  at(0, { kind: "capacity", node: a, runs: 2, offers: { cpus: 1, memory_bytes: 128 * MIB } }),
  at(0, { kind: "capacity", node: b, runs: 2, offers: { cpus: 1, memory_bytes: 128 * MIB } }),
  asked(10, "k-web", web, "always"),
  asked(20, "k-web", web, "always"),
  ...runs(30, web1, web, a),
  asked(40, "k-job", job, "no"),
  ...runs(50, job1, job, b),
  at(60, { kind: "used", tenant, containers: 2, amount: { cpus: 1, memory_bytes: 128 * MIB } }),
  ...ends(100, job1, b),
  at(110, { kind: "acted", container: job, action: "remove" }),
  at(39_000, { kind: "exited", run: web1, node: a }),
  at(45_000, { kind: "orphaned", run: web1, container: web, code: "node_lost" }),
  at(45_001, { kind: "credited", run: web1, cell }),
  ...runs(45_010, web2, web, b),
  at(60_000, { kind: "destroyed", run: web1, node: a }),
]

let cursor = 0
const told = (at_ms: number, type: FinalEvent["type"], container: ContainerId, run: RunId | null = null, attempt: number | null = null) => ({
  tenant, cursor: String(++cursor).padStart(4, "0"), at_ms, type, container, run, attempt,
}) // prettier-ignore
const events: readonly FinalEvent[] = [
  told(10, "container.created", web),
  told(10, "container.scheduling", web, web1, 1),
  told(33, "container.running", web, web1, 1),
  told(40, "container.created", job),
  told(40, "container.scheduling", job, job1, 1),
  told(53, "container.running", job, job1, 1),
  told(100, "container.exited", job, job1, 1),
  told(110, "container.removed", job, job1, 1),
  told(45_000, "container.lost", web, web1, 1),
  told(45_000, "container.scheduling", web, web2, 2),
  told(45_013, "container.running", web, web2, 2),
]

const alive: FinalContainer = { id: web, tenant, status: "running", reason: null, run: { id: web2, state: "running" } }
const removed: FinalContainer = { id: job, tenant, status: "removed", reason: null, run: { id: job1, state: "completed" } }
const final: Final = { containers: [alive, removed], events, reserved: { runs: 1, ...amount }, connected: [a, b] }

const good: History = { entries, final }
const plus = (...more: Entry[]): History => ({ entries: [...entries, ...more], final })
const without = (wrong: (entry: Entry) => boolean): History => ({ entries: entries.filter((entry) => !wrong(entry)), final })
const ending = (changes: Partial<Final>): History => ({ entries, final: { ...final, ...changes } })
const of = (run: RunId, kind: Entry["kind"]) => (entry: Entry) => entry.kind === kind && "run" in entry && entry.run === run

const PLANTED: Readonly<Record<Rule, readonly (readonly [string, History])[]>> = {
  lost_job: [
    ["a container that was answered and is not there", ending({ containers: [removed] })],
    [
      "a service that is given up without a word",
      ending({ containers: [{ ...alive, status: "lost", reason: "node_lost" }, removed] }),
    ],
    ["one that nobody removed", without((entry) => entry.kind === "acted")],
  ],
  stuck: [
    ["one that stays in a passing status", ending({ containers: [{ ...alive, status: "pulling" }, removed] })],
    ["one that waits and does not say for what", ending({ containers: [{ ...alive, status: "scheduling" }, removed] })],
  ],
  disobeyed: [
    ["one that runs on though it was stopped", plus(at(50_000, { kind: "acted", container: web, action: "stop" }))],
    ["one that is there though it was removed", plus(at(50_000, { kind: "acted", container: web, action: "remove" }))],
  ],
  unasked: [["one that nobody was answered with", without((entry) => entry.kind === "asked" && entry.container === web)]],
  key_made_two: [["two containers under one key", plus(asked(70, "k-web", job, "always"))]],
  two_holders: [
    ["the old process living on beside its replacement", without(of(web1, "exited"))],
    ["two processes of which neither was given up", plus(...runs(70, "run_web9" as RunId, web, b))],
    [
      "one that was given up for being slow and lives longer than the window",
      {
        entries: [
          ...entries.filter(
            (entry) => !of(web1, "orphaned")(entry) && !of(web1, "exited")(entry) && !of(web1, "destroyed")(entry),
          ),
          at(45_000, { kind: "orphaned", run: web1, container: web, code: "deadline_exceeded" }),
          ...ends(120_000, web1, a).filter((entry) => entry.kind !== "credited"),
        ],
        final,
      },
    ],
  ],
  started_twice: [
    ["a process started again under its run", plus(at(70_000, { kind: "started", run: web2, container: web, tenant, node: b }))],
  ],
  ran_again: [
    ["another run of what was to run once", plus(...runs(200, job2, job, b), ...ends(300, job2, b))],
    [
      "a run that was heard to run, given up for being slow, and replaced",
      plus(
        at(90, { kind: "orphaned", run: job1, container: job, code: "deadline_exceeded" }),
        ...runs(200, job2, job, b),
        ...ends(300, job2, b),
      ),
    ],
  ],
  quota_exceeded: [
    ["more counted than the quota", plus(at(61, { kind: "used", tenant, containers: 3, amount: { cpus: 1, memory_bytes: 0 } }))],
    [
      "more running than the quota",
      plus(asked(55, "k-2", "ctr_2" as ContainerId, "no"), ...runs(56, "run_2" as RunId, "ctr_2" as ContainerId, a)),
    ],
  ],
  node_overfull: [
    [
      "more booked on a node than it offers",
      plus(at(60, { kind: "reserved", run: job2, cell, node: a, amount: { cpus: 0.6, memory_bytes: 1 } })),
    ],
    ["more runs than it takes", plus(...["run_8", "run_9"].map((run) => at(60, { kind: "reserved", run: run as RunId, cell, node: a, amount: { cpus: 0, memory_bytes: 0 } })))], // prettier-ignore
  ],
  orphan_left: [["a run that was given up and stays on its host", without(of(web1, "destroyed"))]],
  reservation_leaked: [
    ["a booking that nobody gave back", without(of(job1, "credited"))],
    ["more counted by cells than lives", ending({ reserved: { runs: 1, cpus: 0.6, memory_bytes: 64 * MIB } })],
  ],
  reservation_missing: [
    ["a live run that holds nothing", without(of(web2, "reserved"))],
    ["less counted by cells than lives", ending({ reserved: { runs: 0, cpus: 0, memory_bytes: 0 } })],
  ],
  credited_twice: [["a booking given back twice", plus(at(200, { kind: "credited", run: job1, cell }))]],
  event_missing: [
    ["a run whose end is not told", ending({ events: events.filter((event) => event.type !== "container.lost") })],
    [
      "a run that is not told to have been made",
      ending({ events: events.filter((event) => event.attempt !== 1 || event.type !== "container.scheduling") }),
    ],
    ["a removal that is not told", ending({ events: events.filter((event) => event.type !== "container.removed") })],
  ],
  event_twice: [
    ["an end told twice", ending({ events: [...events, told(46_000, "container.exited", web, web1, 1)] })],
    ["a run made twice", ending({ events: [...events, told(46_000, "container.scheduling", web, web2, 2)] })],
  ],
  event_out_of_order: [
    ["a run that is told to run after its end", ending({ events: [...events, told(46_000, "container.running", job, job1, 1)] })],
    ["cursors that go back", ending({ events: events.toReversed() })],
    [
      "an event that is older than the one before",
      ending({ events: [...events, told(44_000, "container.paused", web, web2, 2)] }),
    ],
  ],
}

it("finds nothing wrong with a good history, in whichever order it was recorded", () => {
  expect(check(good)).toEqual([])
  expect(check({ entries: entries.toReversed().toSorted((x, y) => x.at_ms - y.at_ms), final })).toEqual([])
})

describe.each(RULES)("%s", (rule) => {
  it.each(PLANTED[rule])("names %s", (_what, history) => {
    expect(check(history).map((violation) => violation.rule)).toContain(rule)
  })
})

describe("what is allowed", () => {
  it("is a run that begins beside the one that it relieves", () => {
    const beside = { entries: entries.map((entry) => (of(web1, "exited")(entry) ? { ...entry, at_ms: 46_000 } : entry)), final }
    expect(check(beside).map(({ rule }) => rule)).toEqual(["two_holders"])
    expect(check({ ...beside, entries: [...beside.entries, at(1, { kind: "relieved", run: web1 })] })).toEqual([])
  })

  it("is another run of what was to run once, when its tenant asks for it", () => {
    const again = plus(
      at(150, { kind: "called", container: job, action: "start" }),
      ...runs(200, job2, job, b),
      ...ends(300, job2, b),
    )
    expect(check(again).map(({ rule }) => rule)).not.toContain("ran_again")
  })

  it("is another run for one that was given up before anybody heard of its start", () => {
    const unheard = plus(
      at(90, { kind: "orphaned", run: job1, container: job, code: "deadline_exceeded" }),
      ...runs(200, job2, job, b), ...ends(300, job2, b),
    ) // prettier-ignore
    const entriesOf = unheard.entries.filter((entry) => !of(job1, "reported")(entry))
    expect(check({ ...unheard, entries: entriesOf }).map(({ rule }) => rule)).not.toContain("ran_again")
  })
})
