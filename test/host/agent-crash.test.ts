/**
 * The bridge with real containers, killed by SIGKILL at many moments of a create: the next one takes up whatever there is.
 * A container whose process counts its own starts in its log shows that nothing ran twice.
 */
import { spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { execFileSync } from "node:child_process"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { makeHelloImage } from "../../bin/hello-image.ts"
import type { RunId } from "../../schema/ids.ts"
import type { LogEntry, Observation } from "../../schema/protocol.ts"
import { anAssignment } from "../support/assignments.ts"
import type { SpecChanges } from "../support/assignments.ts"
import { FakePlatform } from "../support/fake-platform.ts"
import { temporaryDir } from "../support/temporary-dir.ts"
import { waitFor } from "../support/wait-for.ts"

const MAIN = join(import.meta.dirname, "../../node-bridge/main.ts")
/** A create takes 40 to 150 ms here, so that these fall into each of its steps. */
const KILLED_AFTER_MS = [0, 5, 15, 30, 50, 80]

let platform: FakePlatform
let dir: Awaited<ReturnType<typeof temporaryDir>>
let child: ChildProcess | undefined

async function bridge(): Promise<ChildProcess> {
  const args = ["--state", join(dir.path, "state"), "--images", join(dir.path, "images"), "--url", platform.url]
  const sessions = platform.hellos.length
  child = spawn(process.execPath, [MAIN, ...args, "--join-token", platform.joinToken], {
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  })
  await waitFor("a session", () => platform.hellos.length > sessions, 30_000)
  return child
}
async function end(signal: NodeJS.Signals): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child?.once("exit", resolve))
  child.kill(signal)
  await ended
}
const hello = (args: string[], spec: SpecChanges = {}) =>
  anAssignment({ spec: { image: "localhost/hello:latest", command: ["/bin/sh", "-c", ...args], ...spec } })
const reaches = (runId: RunId, what: string, test: (seen: Observation) => boolean) =>
  waitFor(
    `${what} of ${runId}, which is ${JSON.stringify(platform.observed.get(runId))}`,
    () => {
      const seen = platform.observed.get(runId)
      return seen && test(seen) ? seen : undefined
    },
    20_000,
  )

beforeAll(async () => {
  platform = await FakePlatform.start()
  dir = await temporaryDir()
  await makeHelloImage(join(dir.path, "images"))
  await bridge()
})
afterEach(async () => {
  if (!child || child.exitCode !== null || child.signalCode !== null) await bridge()
  for (const runId of platform.assignments.keys()) platform.change(runId, { desired: "removed" })
  await waitFor("an empty node", () => platform.assignments.size === 0, 20_000)
})
afterAll(async () => {
  await end("SIGUSR2")
  await platform[Symbol.asyncDispose]()
  await dir[Symbol.asyncDispose]()
})

async function logOf(runId: RunId): Promise<string[]> {
  const stream = platform.openLogs([runId], {}, 1_000_000)
  await waitFor("the log", () => stream.end)
  return stream.text.trimEnd().split("\n").filter((line) => line !== "").map((line) => (JSON.parse(line) as LogEntry).text) // prettier-ignore
}

/** Live processes of this state directory's containers, by their monitors. */
function monitors(runId: RunId): number {
  const all = execFileSync("ps", ["-eo", "stat=,args="], { encoding: "utf8" }).split("\n")
  return all.filter((line) => !line.startsWith("Z") && /\bconmon\b/.test(line) && line.includes(runId)).length
}

describe("a create during which the bridge is killed", () => {
  it.each(KILLED_AFTER_MS)("after %i ms ends in one process, started once", async (ms) => {
    const run = hello(["echo started; sleep 600"])
    platform.assign(run)
    await new Promise((resolve) => setTimeout(resolve, ms))
    await end("SIGKILL")
    await bridge()
    await reaches(run.run_id, "running", ({ state }) => state === "running")
    expect(monitors(run.run_id)).toBe(1)
    await waitFor("the log", async () => (await logOf(run.run_id)).length > 0)
    expect(await logOf(run.run_id)).toEqual(["started"])
  })
})

describe("a run whose bridge is away", () => {
  it("goes on, and its real exit is told when the next bridge comes", async () => {
    const lives = hello(["sleep 600"])
    const ends = hello(["echo bye; sleep 0.5; exit 7"])
    platform.assign(lives, ends)
    for (const { run_id } of [lives, ends]) await reaches(run_id, "running", ({ state }) => state === "running")
    await end("SIGKILL")
    await waitFor("its end", () => monitors(ends.run_id) === 0)
    platform.observed.delete(lives.run_id)
    await bridge()
    await reaches(lives.run_id, "running", ({ state }) => state === "running")
    expect(await reaches(ends.run_id, "the end", ({ state }) => state === "failed")).toMatchObject({
      exit: { code: 7, by: "process", log_tail: ["bye"] },
      reason: { code: "exited" },
    })
  })
})

/**
 * conmon and the container know of no lease: what ends them while the bridge cannot is the guard beside it. The lease is short
 * here, and as long as the guard may sleep at most before it reads of a change.
 */
describe("a run whose lease ends while its bridge", () => {
  const LEASE = { heartbeat_seconds: 0.2, lease_seconds: 8, lease_margin_seconds: 1 }

  async function underAShortLease() {
    platform.timing = LEASE
    platform.drop()
    const sessions = platform.hellos.length
    await waitFor("a session under a short lease", () => platform.hellos.length > sessions)
    const frozen = hello(["sleep 600"])
    const runs = {
      ends: hello(["trap : TERM; while :; do sleep 1; done"]),
      frozen,
      kept: hello(["sleep 600"], { on_partition: "keep" }),
    }
    platform.assign(runs.ends, runs.frozen, runs.kept)
    for (const { run_id } of Object.values(runs)) await reaches(run_id, "running", ({ state }) => state === "running")
    platform.change(frozen.run_id, { paused: true })
    await reaches(frozen.run_id, "a pause", ({ paused }) => paused)
    return { ends: runs.ends.run_id, frozen: frozen.run_id, kept: runs.kept.run_id }
  }
  const withinTheLease = async (runId: RunId, since: number) => {
    await waitFor(`the end of ${runId}`, () => monitors(runId) === 0, 15_000)
    expect(performance.now() - since).toBeLessThan(LEASE.lease_seconds * 1000)
  }
  const told = async (runs: Awaited<ReturnType<typeof underAShortLease>>) => {
    for (const runId of [runs.ends, runs.frozen]) {
      expect(await reaches(runId, "the end", ({ state }) => state === "stopped")).toMatchObject({
        exit: { by: "platform", signal: "SIGKILL" },
        reason: { code: "lease_lost" },
      })
    }
    expect(monitors(runs.kept)).toBe(1)
  }
  afterEach(() => {
    child?.kill("SIGCONT")
    platform.timing = { heartbeat_seconds: 1, lease_seconds: 45, lease_margin_seconds: 15 }
  })

  it("is stopped ends all the same, unless it is to be kept; the bridge says so when it goes on", async () => {
    const runs = await underAShortLease()
    child?.kill("SIGSTOP")
    const since = performance.now()
    for (const runId of [runs.ends, runs.frozen]) await withinTheLease(runId, since)
    child?.kill("SIGCONT")
    await told(runs)
  })

  it("is dead ends all the same, unless it is to be kept; the next bridge says so", async () => {
    const runs = await underAShortLease()
    await end("SIGKILL")
    const since = performance.now()
    for (const runId of [runs.ends, runs.frozen]) await withinTheLease(runId, since)
    await bridge()
    await told(runs)
  })
})
