import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { randomUUID } from "node:crypto"
import { Agent } from "../../../node-bridge/agent/agent.ts"
import { createFakeController } from "../../../node-bridge/runtime/fake-controller.ts"
import type { FakeController } from "../../../node-bridge/runtime/fake-controller.ts"
import { LeaseFile } from "../../../node-bridge/agent/lease-file.ts"
import { nodeFacts } from "../../../node-bridge/agent/facts.ts"
import { silentLog } from "../../../node-bridge/log.ts"
import { systemTimers } from "../../../node-bridge/timers.ts"
import type { Timers } from "../../../node-bridge/timers.ts"
import type { RunId } from "../../../schema/ids.ts"
import { CLOSE, PROTOCOL_VERSION } from "../../../schema/protocol.ts"
import type { Network } from "../../../schema/container.ts"
import type { Assignment, LogEntry, Notice, Observation } from "../../../schema/protocol.ts"
import { anAssignment, BOOT } from "../../support/assignments.ts"
import { FakePlatform } from "../../support/fake-platform.ts"
import { temporaryDir } from "../../support/temporary-dir.ts"
import { waitFor } from "../../support/wait-for.ts"

const CAPACITY = { cpus: 2, memory_bytes: 1024 ** 3, pids: 1000, runs: 100, disk_bytes: 1024 ** 3 }

let platform: FakePlatform
let host: FakeController
let dir: Awaited<ReturnType<typeof temporaryDir>>
let agent: Agent
let running: Promise<unknown>
/** How long the bridge was stopped so far: its timers do not know. */
let stoppedForMs: number
const timers: Timers = { ...systemTimers, boottime: () => systemTimers.boottime() + stoppedForMs }

async function bridge(boot = BOOT): Promise<void> {
  agent = await Agent.adopt({
    controller: host,
    journalDir: join(dir.path, "journal"),
    leaseMemory: new LeaseFile(join(dir.path, "lease"), boot, silentLog),
    facts: () => nodeFacts({ hostname: "host-1", labels: {}, capacity: CAPACITY, bootId: boot, controller: host }),
    bridgeVersion: "test",
    url: platform.url,
    assertion: async () => "unsigned",
    parallelStarts: 4,
    timers,
    random: () => 0,
    newId: randomUUID,
    log: silentLog,
    welcomed: () => {},
  })
  running = agent.run()
}

beforeEach(async () => {
  stoppedForMs = 0
  platform = await FakePlatform.start()
  host = await createFakeController({ dir: null, timers: systemTimers })
  dir = await temporaryDir()
  await bridge()
  await waitFor("a session", () => platform.hellos.length > 0)
})
afterEach(async () => {
  await agent.leave()
  await platform[Symbol.asyncDispose]()
  await dir[Symbol.asyncDispose]()
})

const lines = (text: string): LogEntry[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as LogEntry)

const reaches = (runId: RunId, what: string, test: (observation: Observation) => boolean) =>
  waitFor(`${what} of ${runId}`, () => {
    const seen = platform.observed.get(runId)
    return seen && test(seen) ? seen : undefined
  })
const runs = (runId: RunId) => reaches(runId, "running", ({ state }) => state === "running")
async function aRunning(changes: Parameters<typeof anAssignment>[0] = {}): Promise<Assignment> {
  const assignment = anAssignment(changes)
  platform.assign(assignment)
  await runs(assignment.run_id)
  return assignment
}

describe("a run that is assigned", () => {
  it("is prepared, started and reported, and stopped when that is wished", async () => {
    const { run_id } = await aRunning()
    platform.change(run_id, { desired: "stopped" })
    const end = await reaches(run_id, "end", ({ state }) => state === "stopped")
    expect(end).toMatchObject({ exit: { by: "tenant", signal: "SIGTERM", code: 143 }, reason: { code: "stopped" } })
    platform.change(run_id, { desired: "removed" })
    await waitFor("gone", () => platform.gone.has(run_id))
    expect(await host.list()).toEqual([])
  })

  it("is gone when the platform takes it out of the set", async () => {
    const { run_id } = await aRunning()
    platform.unassign(run_id)
    await waitFor("gone", () => platform.gone.has(run_id))
    expect(await host.list()).toEqual([])
  })

  it("is rejected with the tenant's reason when its image is missing", async () => {
    const assignment = anAssignment({ spec: { image: "fake.test/missing" } })
    platform.assign(assignment)
    expect(await reaches(assignment.run_id, "end", ({ state }) => state === "rejected")).toMatchObject({
      reason: { code: "image_not_found" },
    })
  })

  it("is rejected alone when it breaks the host's rules, and the session goes on", async () => {
    const bad = anAssignment({ spec: { hostname: "-rf" } })
    const good = anAssignment()
    platform.assign(bad, good)
    await runs(good.run_id)
    expect(await reaches(bad.run_id, "end", ({ state }) => state === "rejected")).toMatchObject({
      reason: { code: "invalid_assignment" },
    })
    expect(platform.hellos).toHaveLength(1)
  })

  it("is tried again when the host was short for a moment, and not for ever", async () => {
    const env = { FAKE_START_ERROR: "no_netns", FAKE_START_ERROR_RETRYABLE: "true" }
    const soon = anAssignment({ spec: { env: { ...env, FAKE_START_FAILURES: "2" } } })
    const never = anAssignment({ spec: { env } })
    platform.assign(soon, never)
    await runs(soon.run_id)
    expect(await reaches(never.run_id, "end", ({ state }) => state === "failed")).toMatchObject({
      reason: { code: "no_netns" },
      exit: null,
    })
  })

  it("has its preparation called off by a stop", async () => {
    const assignment = anAssignment({ spec: { env: { FAKE_PREPARE_MS: "3600000" } } })
    platform.assign(assignment)
    await reaches(assignment.run_id, "preparing", ({ state }) => state === "preparing")
    platform.change(assignment.run_id, { desired: "stopped" })
    await reaches(assignment.run_id, "end", ({ state }) => state === "stopped")
    expect(host.everStarted).toBe(0)
  })

  it("is killed at once by a second stop without patience", async () => {
    const { run_id } = await aRunning({ spec: { image: "fake.test/stubborn", stop: { timeout_seconds: 3600 } } })
    platform.change(run_id, { desired: "stopped" })
    platform.change(run_id, { desired: "stopped", stop_timeout_seconds: 0 })
    expect(await reaches(run_id, "end", ({ state }) => state === "stopped")).toMatchObject({ exit: { signal: "SIGKILL" } })
  })

  it("is stopped by the platform at the end of its lifetime", async () => {
    const { run_id } = await aRunning({ spec: { max_lifetime_seconds: 1 } })
    expect(await reaches(run_id, "end", ({ state }) => state === "stopped")).toMatchObject({
      exit: { by: "platform" },
      reason: { code: "lifetime_exceeded" },
    })
  })

  it("is paused, and resumed", async () => {
    const { run_id } = await aRunning()
    platform.change(run_id, { paused: true })
    await reaches(run_id, "pause", ({ paused }) => paused)
    platform.change(run_id, { paused: false })
    await reaches(run_id, "resume", ({ paused }) => !paused)
  })
})

describe("sessions", () => {
  it("come back after every kind of break, with what happened meanwhile", async () => {
    const { run_id } = await aRunning()
    platform.drop()
    platform.assignSilently({ ...(platform.assignments.get(run_id) ?? anAssignment()), desired: "stopped" })
    await reaches(run_id, "end", ({ state }) => state === "stopped")
    expect(platform.hellos.length).toBeGreaterThan(1)
  })

  it("begin anew with the complete set when an increment does not chain", async () => {
    platform.sendText(JSON.stringify({ type: "increment", applies_to: 77, results_in: 78, upsert: [], remove: [] }))
    await waitFor("a second session", () => platform.hellos.length === 2)
    expect(platform.closes).toEqual([CLOSE.resync])
    await aRunning()
  })

  it("tell the host of runs that are on their way", async () => {
    const before = host.expected
    platform.sendText(JSON.stringify({ type: "expect" }))
    await waitFor("the host to be told", () => host.expected === before + 1)
    expect(platform.closes).toEqual([])
  })

  it.each([
    ["is not JSON", "{"],
    ["is of no known type", JSON.stringify({ type: "surprise" })],
    ["has a field too many", JSON.stringify({ type: "report_ack", seq: 1, more: true })],
    [
      "is a second welcome",
      JSON.stringify({
        type: "welcome",
        protocol: PROTOCOL_VERSION,
        node_id: "nod_00000000000000000000000000",
        heartbeat_seconds: 1,
        lease_seconds: 45,
        lease_margin_seconds: 15,
      }),
    ],
  ])("end at a message that %s", async (_, text) => {
    platform.sendText(text)
    await waitFor("a second session", () => platform.hellos.length === 2)
    expect(platform.closes).toEqual([CLOSE.protocol_error])
  })

  it("end when heartbeats are not answered", async () => {
    platform.timing = { ...platform.timing, heartbeat_seconds: 0.02 }
    platform.answering = false
    platform.drop()
    await waitFor("sessions that end", () => platform.hellos.length > 3)
    platform.answering = true
    await aRunning()
  })

  it("take a complete set in parts, and condemn nothing before the last", async () => {
    const all = await Promise.all([aRunning(), aRunning(), aRunning()])
    platform.partSize = 1
    platform.drop()
    await waitFor("a second session", () => platform.hellos.length === 2)
    await aRunning()
    expect(new Set(await host.list())).toEqual(new Set(platform.assignments.keys()))
    for (const { run_id } of all) expect(platform.gone.has(run_id)).toBe(false)
  })

  it("destroy what the complete set has no more, known or not", async () => {
    const known = await aRunning()
    const stranger = anAssignment()
    await host.prepare(stranger, new AbortController().signal)
    await host.start(stranger)
    platform.assignments.delete(known.run_id)
    platform.drop()
    await waitFor("an empty host", async () => (await host.list()).length === 0)
    await waitFor("gone", () => platform.gone.has(known.run_id))
  })

  it("repeat reports until they are acknowledged", async () => {
    platform.acking = false
    const { run_id } = await aRunning()
    const before = platform.history.length
    platform.acking = true
    platform.drop()
    await waitFor("the report again", () =>
      platform.history.slice(before).some((seen) => seen.run_id === run_id && seen.state === "running"),
    )
  })

  it("are over for good when another bridge has the key", async () => {
    platform.close(CLOSE.replaced)
    expect(await running).toBe("replaced")
  })

  it("stop everything when the platform forgets the node", async () => {
    await aRunning()
    platform.close(CLOSE.forgotten)
    expect(await running).toBe("forgotten")
    for (const run of await host.list()) expect(await host.inspect(run)).toMatchObject({ kind: "exited" })
  })
})

describe("the lease", () => {
  it("stops the runs of a node that the platform does not hear, and tells when it is back", async () => {
    const { run_id } = await aRunning()
    platform.timing = { heartbeat_seconds: 0.05, lease_seconds: 1, lease_margin_seconds: 0 }
    platform.drop()
    await waitFor("a session under a short lease", () => platform.hellos.length === 2)
    platform.reachable = false
    platform.drop()
    await waitFor("the end", async () => (await host.inspect(run_id)).kind === "exited")
    platform.reachable = true
    expect(await reaches(run_id, "end", ({ state }) => state === "stopped")).toMatchObject({
      exit: { by: "platform" },
      reason: { code: "lease_lost" },
    })
    await aRunning()
  })
})

const hasEnded = (runId: RunId) => waitFor(`the end of ${runId}`, async () => (await host.inspect(runId)).kind === "exited")

describe("a bridge that was stopped past its lease", () => {
  it("stops its runs before it takes anything that was on its way to it", async () => {
    const { run_id } = await aRunning()
    const late = anAssignment()
    const sessions = platform.hellos.length
    stoppedForMs = 60_000
    platform.assign(late)
    platform.assignments.delete(late.run_id) // given up by the platform meanwhile
    await hasEnded(run_id)
    expect(await reaches(run_id, "end", ({ state }) => state === "stopped")).toMatchObject({
      exit: { by: "platform" },
      reason: { code: "lease_lost" },
    })
    expect(platform.hellos.length).toBeGreaterThan(sessions)
    expect(host.everStarted).toBe(1)
  })

  it("starts nothing that waited for its turn", async () => {
    const assignment = anAssignment({ spec: { env: { FAKE_PREPARE_MS: "100" } } })
    platform.assign(assignment)
    await reaches(assignment.run_id, "preparing", ({ state }) => state === "preparing")
    stoppedForMs = 60_000
    const end = await reaches(assignment.run_id, "end", ({ state }) => state === "stopped")
    expect(end.reason?.code).toBe("lease_lost")
    expect(host.everStarted).toBe(0)
  })

  it("leaves those that are to be kept, and takes up its work", async () => {
    const kept = await aRunning({ spec: { on_partition: "keep" } })
    const other = await aRunning()
    stoppedForMs = 60_000
    platform.drop()
    await hasEnded(other.run_id)
    await aRunning()
    expect(await host.inspect(kept.run_id)).toMatchObject({ kind: "running" })
    expect(platform.observed.get(kept.run_id)).toMatchObject({ state: "running" })
  })

  it("or killed past it: the next one stops them before it knows the platform", async () => {
    const kept = await aRunning({ spec: { on_partition: "keep" } })
    const other = await aRunning()
    await agent.leave()
    stoppedForMs = 60_000
    await bridge()
    expect(await reaches(other.run_id, "end", ({ state }) => state === "stopped")).toMatchObject({
      exit: { by: "platform" },
      reason: { code: "lease_lost" },
    })
    expect(await host.inspect(kept.run_id)).toMatchObject({ kind: "running" })
    await aRunning()
  })
})

describe("the next bridge", () => {
  it("takes up what runs, and reports what ended meanwhile with its real exit", async () => {
    const lives = await aRunning()
    const ends = await aRunning({ spec: { env: { FAKE_EXIT_CODE: "3", FAKE_RUN_FOR_MS: "300" } } })
    await agent.leave()
    platform.observed.delete(lives.run_id)
    await waitFor("the end", async () => (await host.inspect(ends.run_id)).kind === "exited")
    await bridge()
    await runs(lives.run_id)
    expect(await reaches(ends.run_id, "end", ({ state }) => state === "failed")).toMatchObject({
      exit: { code: 3, by: "process" },
    })
    expect(host.everStarted).toBe(2)
  })
})

describe("a restart of the host", () => {
  it("starts nothing again, whether the journal kept its lines or lost them", async () => {
    const kept = await aRunning()
    const forgotten = await aRunning()
    await agent.leave()
    for (const { run_id } of [kept, forgotten]) await host.remove(run_id)
    await rm(join(dir.path, "journal", `${forgotten.run_id}.jsonl`))
    await bridge("boot-2")
    for (const { run_id } of [kept, forgotten]) {
      expect(await reaches(run_id, "end", ({ state }) => state === "failed")).toMatchObject({
        exit: { by: "host" },
        reason: { code: "host_restarted" },
      })
    }
    expect(host.everStarted).toBe(2)
    await aRunning()
  })
})

describe("a drain", () => {
  it("stops every run as the host's doing, tells the platform, and leaves", async () => {
    const quick = await aRunning()
    const stubborn = await aRunning({ spec: { image: "fake.test/stubborn", stop: { timeout_seconds: 3600 } } })
    await agent.drain(0.05)
    for (const { run_id } of [quick, stubborn]) {
      expect(platform.observed.get(run_id)).toMatchObject({
        state: "stopped",
        exit: { by: "host" },
        reason: { code: "host_shutdown" },
      })
    }
    expect(platform.conditions.at(-1)).toMatchObject({ condition: { accepting: false } })
    expect(await running).toBeNull()
  })
})

describe("what happens on the host", () => {
  const lost = { code: "accelerator_lost", message: "The device fake.test/gpu=0 is gone." }
  const notice = (run_id: RunId, kind: Notice["kind"]) => host.happen({ run_id, kind, at_ms: 1, reason: lost })

  it("is told of a live run, each time with an id of its own, and the run goes on", async () => {
    const { run_id } = await aRunning()
    for (let i = 0; i < 2; i++) notice(run_id, "disk_full")
    await waitFor("both notices", () => platform.notices.length === 2)
    expect(new Set(platform.notices.map(({ id }) => id)).size).toBe(2)
    expect(await host.inspect(run_id)).toMatchObject({ kind: "running" })
  })

  it("is told again in the next session when it was not acknowledged", async () => {
    const { run_id } = await aRunning()
    platform.acking = false
    notice(run_id, "disk_full")
    await waitFor("the notice", () => platform.notices.length === 1)
    platform.acking = true
    platform.drop()
    await waitFor("the notice again", () => platform.notices.length === 2)
    expect(platform.notices[1]).toEqual(platform.notices[0])
  })

  it("ends a run that lost its device, as the host's doing", async () => {
    const { run_id } = await aRunning()
    notice(run_id, "accelerator_lost")
    expect(await reaches(run_id, "end", ({ state }) => state === "stopped")).toMatchObject({
      exit: { by: "host" },
      reason: { code: "accelerator_lost" },
    })
    expect(platform.notices).toMatchObject([{ run_id, kind: "accelerator_lost" }])
  })

  it("ends a run that deviates only where the policy says so", async () => {
    const stays = await aRunning()
    const goes = await aRunning({ spec: { on_deviation: "stop", image: "fake.test/stubborn" } })
    for (const { run_id } of [stays, goes]) notice(run_id, "isolation_deviated")
    expect(await reaches(goes.run_id, "end", ({ state }) => state === "stopped")).toMatchObject({ exit: { signal: "SIGKILL" } })
    expect(await host.inspect(stays.run_id)).toMatchObject({ kind: "running" })
  })

  it("is not told of a run that nobody knows", async () => {
    notice(anAssignment().run_id, "disk_full")
    await aRunning()
    expect(platform.notices).toEqual([])
  })

  it("changes the facts and the condition, in this session and the next", async () => {
    const device = { name: "fake.test/gpu=0", healthy: true, reason: null, parent: null }
    host.setDevices([device])
    await waitFor("the device", () => platform.facts?.devices.length === 1)
    const full = { accepting: false, reason: { code: "disk_pressure", message: "The disk is full." }, conditions: [] }
    host.setCondition(full)
    await waitFor("the condition", () => platform.conditions.at(-1)?.condition.accepting === false)
    platform.drop()
    await waitFor("a second session", () => platform.hellos.length === 2)
    expect(platform.hellos[1]).toMatchObject({ condition: full, facts: { devices: [device] } })
  })
})

describe("a host that cannot create containers", () => {
  it("takes no new ones, and leaves those that run alone", async () => {
    const lives = await aRunning()
    host.breakDown("start_failed")
    for (let i = 0; i < 3; i++) {
      const fails = anAssignment()
      platform.assign(fails)
      await reaches(fails.run_id, "end", ({ state }) => state === "failed")
    }
    await waitFor("the condition", () => platform.conditions.at(-1)?.condition.accepting === false)
    expect(platform.conditions.at(-1)?.condition.conditions).toMatchObject([{ kind: "runtime_broken" }])
    expect(await host.inspect(lives.run_id)).toMatchObject({ kind: "running" })
    host.breakDown(null)
    await aRunning()
    await waitFor("the condition's end", () => platform.conditions.at(-1)?.condition.accepting === true)
  })
})

describe("a network that is changed", () => {
  const NONE = { egress: "none" as const }

  it("is put in force on a live run, in the end as it was last wished", async () => {
    const { run_id, spec } = await aRunning()
    const change = (network: Network) => platform.change(run_id, { spec: { ...spec, network } })
    change({ egress: "open", egress_bytes_per_second: 1000 })
    change(NONE)
    await waitFor("the change", () => host.networkOf(run_id)?.egress === "none")
    change({ egress: ["10.1.0.0/16"] })
    await waitFor("the next", () => Array.isArray(host.networkOf(run_id)?.egress))
  })

  it("is in force before the process of a prepared run starts", async () => {
    const env = { FAKE_PREPARE_MS: "100", FAKE_NETWORK_ERROR: "busy", FAKE_NETWORK_FAILURES: "1" }
    const { run_id, spec } = anAssignment({ spec: { env } })
    platform.assign(anAssignment({ run_id, spec }))
    await reaches(run_id, "preparing", ({ state }) => state === "preparing")
    platform.change(run_id, { spec: { ...spec, network: NONE } })
    await runs(run_id)
    expect(host.networkOf(run_id)).toEqual(NONE)
  })
})

describe("commands and logs", () => {
  const output = Array.from({ length: 100 }, (_, index) => `line ${index}`).join("\n")

  it("signals a process, whose end is then the tenant's doing", async () => {
    const { run_id } = await aRunning()
    expect(await platform.command(run_id, { kind: "signal", signal: "SIGKILL" })).toMatchObject({ error: null })
    expect(await reaches(run_id, "end", ({ state }) => state === "failed")).toMatchObject({
      exit: { by: "tenant", signal: "SIGKILL" },
    })
  })

  it("reads the isolation back, and says no for a run that is not here", async () => {
    const { run_id } = await aRunning()
    expect(await platform.command(run_id, { kind: "isolation" })).toMatchObject({
      error: null,
      data: { run_id, verdict: "deviates" },
    })
    expect(await platform.command(anAssignment().run_id, { kind: "isolation" })).toMatchObject({ error: { code: "no_such_run" } })
  })

  it("sends a log within its credit, to the byte, and ends the stream after the last line", async () => {
    const { run_id } = await aRunning({ spec: { env: { FAKE_OUTPUT: output } } })
    const stream = platform.openLogs([run_id], {}, 1000)
    await waitFor("the credit to be used", () => stream.text.length === 1000)
    expect(stream.end).toBeNull()
    platform.credit(stream, 1)
    await waitFor("one byte more", () => stream.text.length === 1001)
    platform.credit(stream, 1_000_000)
    await waitFor("the end", () => stream.end)
    expect(stream.end).toEqual({ error: null })
    expect(lines(stream.text).map(({ text }) => text)).toEqual(output.split("\n"))
  })

  it("reads the runs of a container one after the other, and goes on after a cursor", async () => {
    const first = await aRunning({ spec: { env: { FAKE_OUTPUT: "a\nb" } } })
    const second = await aRunning({ spec: { env: { FAKE_OUTPUT: "c\nd" } } })
    const read = async (logs: Parameters<FakePlatform["openLogs"]>[1]) => {
      const stream = platform.openLogs([first.run_id, second.run_id], logs, 100_000)
      await waitFor("the end", () => stream.end)
      return stream.text === "" ? [] : lines(stream.text)
    }
    const all = await read({})
    expect(all.map(({ text }) => text)).toEqual(["a", "b", "c", "d"])
    expect((await read({ tail: 3 })).map(({ text }) => text)).toEqual(["b", "c", "d"])
    expect((await read({ tail: 0 })).map(({ text }) => text)).toEqual([])
    for (const [index, { cursor }] of all.entries()) {
      expect((await read({ after: cursor })).map(({ text }) => text)).toEqual(["a", "b", "c", "d"].slice(index + 1))
    }
  })

  it("follows until the run ends, or the reader leaves", async () => {
    const { run_id } = await aRunning({ spec: { env: { FAKE_OUTPUT: "here" } } })
    const leaves = platform.openLogs([run_id], { follow: true }, 100_000)
    const stays = platform.openLogs([run_id], { follow: true }, 100_000)
    await waitFor("both lines", () => leaves.text !== "" && stays.text !== "")
    platform.closeStream(leaves)
    platform.change(run_id, { desired: "stopped" })
    await waitFor("the end", () => stays.end)
    expect(leaves.end).toBeNull()
  })
})
