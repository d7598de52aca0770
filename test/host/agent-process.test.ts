/** The bridge as a process, with the fake controller: what its signals, its lock, its exit codes and its death do. */
import { spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { stat } from "node:fs/promises"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { RunId } from "../../schema/ids.ts"
import type { Observation } from "../../schema/protocol.ts"
import { anAssignment } from "../support/assignments.ts"
import { FakePlatform } from "../support/fake-platform.ts"
import { temporaryDir } from "../support/temporary-dir.ts"
import { waitFor } from "../support/wait-for.ts"

const MAIN = join(import.meta.dirname, "../../node-bridge/main.ts")

interface Bridge {
  readonly child: ChildProcess
  readonly ended: Promise<{ code: number | null; stderr: string }>
  readonly messages: unknown[]
}

let platform: FakePlatform
let dir: Awaited<ReturnType<typeof temporaryDir>>
let bridges: Bridge[]

function bridge(...extra: string[]): Bridge {
  const args = [
    MAIN,
    "--state",
    join(dir.path, "state"),
    "--url",
    platform.url,
    "--controller",
    "fake",
    "--drain-timeout",
    "0.2",
    ...extra,
  ]
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe", "ipc"] })
  const messages: unknown[] = []
  let stderr = ""
  child.on("message", (message) => messages.push(message))
  child.stderr?.on("data", (data: Buffer) => (stderr += data.toString("utf8")))
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
    child.once("exit", (code) => resolve({ code, stderr })),
  )
  const started = { child, ended, messages }
  bridges.push(started)
  return started
}
const joins = () => bridge("--join-token", platform.joinToken)
const isReady = (one: Bridge) => waitFor("the bridge to be ready", () => one.messages.length > 0)
const reaches = (runId: RunId, what: string, test: (seen: Observation) => boolean) =>
  waitFor(what, () => {
    const seen = platform.observed.get(runId)
    return seen && test(seen) ? seen : undefined
  })
async function aRunning(env: Record<string, string> = {}) {
  const assignment = anAssignment({ spec: { env } })
  platform.assign(assignment)
  await reaches(assignment.run_id, "running", ({ state }) => state === "running")
  return assignment.run_id
}

beforeEach(async () => {
  bridges = []
  platform = await FakePlatform.start()
  dir = await temporaryDir()
})
afterEach(async () => {
  for (const { child, ended } of bridges) {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL")
    await ended
  }
  await platform[Symbol.asyncDispose]()
  await dir[Symbol.asyncDispose]()
})

describe("the bridge", () => {
  it("enrols with its join token, says that it is ready, and keeps its key to itself", async () => {
    const first = joins()
    await isReady(first)
    expect(first.messages).toEqual([{ type: "ready", node_id: platform.nodeId }])
    expect((await stat(join(dir.path, "state/identity.json"))).mode & 0o777).toBe(0o600)
    expect(platform.hellos[0]?.facts).toMatchObject({ architecture: expect.any(String), profiles: [{ name: "hardened" }] })
  })

  it.each(["SIGTERM", "SIGINT"] as const)(
    "leaves its runs as they are at %s, and takes them up again without a token",
    async (signal) => {
      const first = joins()
      await isReady(first)
      const lives = await aRunning()
      const ends = await aRunning({ FAKE_RUN_FOR_MS: "500", FAKE_EXIT_CODE: "7" })
      first.child.kill(signal)
      expect((await first.ended).code).toBe(0)
      platform.observed.delete(lives)
      await isReady(bridge())
      await reaches(lives, "running", ({ state }) => state === "running")
      expect(await reaches(ends, "the end", ({ state }) => state === "failed")).toMatchObject({
        exit: { code: 7, by: "process" },
      })
    },
  )

  it("takes up what runs after it was killed", async () => {
    const first = joins()
    await isReady(first)
    const run = await aRunning()
    first.child.kill("SIGKILL")
    await first.ended
    platform.observed.delete(run)
    await isReady(bridge())
    await reaches(run, "running", ({ state }) => state === "running")
  })

  it.each([
    ["at SIGUSR2", (one: Bridge) => one.child.kill("SIGUSR2")],
    ["when its parent says so", (one: Bridge) => one.child.send({ type: "drain" })],
  ])("stops its runs %s, tells the platform, and ends", async (_, drain) => {
    const first = joins()
    await isReady(first)
    const [quick, stubborn] = [await aRunning(), await aRunning({ FAKE_IGNORE_STOP: "true" })]
    drain(first)
    expect((await first.ended).code).toBe(0)
    for (const run of [quick, stubborn]) {
      expect(platform.observed.get(run)).toMatchObject({
        state: "stopped",
        exit: { by: "host" },
        reason: { code: "host_shutdown" },
      })
    }
  })

  it("ends with its parent and leaves its runs", async () => {
    const first = joins()
    await isReady(first)
    first.child.disconnect()
    expect((await first.ended).code).toBe(0)
  })

  it("does not share its state with another bridge", async () => {
    await isReady(joins())
    const { code, stderr } = await bridge().ended
    expect(code).toBe(4)
    expect(stderr).toMatch(/^The state directory .* is in use by another node-bridge; .*\n$/)
  })

  it.each([
    ["without a token", [], 2, /^This host is not enrolled yet: give a join token/],
    ["with a wrong token", ["--join-token", "wrong"], 5, /^The platform refused to enrol this node: The join token is not valid/],
    [
      "with a token file that is not there",
      ["--join-token-file", "/nowhere"],
      2,
      /^The join token file \/nowhere cannot be read\./,
    ],
    [
      "with a state directory that is a file",
      ["--state", import.meta.filename],
      3,
      /^The state directory .* cannot be written \(ENOTDIR\)/,
    ],
    [
      "with a state directory that cannot be",
      ["--state", "/proc/berth"],
      3,
      /^The state directory \/proc\/berth cannot be written/,
    ],
  ])("says in one sentence why it cannot begin %s", async (_, args, code, sentence) => {
    const end = await bridge(...args).ended
    expect(end).toMatchObject({ code, stderr: expect.stringMatching(sentence) })
    expect(end.stderr.trimEnd().split("\n")).toHaveLength(1)
  })

  it("keeps trying while the platform is away", async () => {
    platform.enrolStatus = 503
    const first = joins()
    await waitFor("a first try", () => platform.refusals > 1)
    platform.enrolStatus = 200
    await isReady(first)
  })
})
