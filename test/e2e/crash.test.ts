/**
 * The control plane's process or the bridge killed with `kill -9` at every step of a real create. Whoever dies, and whenever:
 * the container gets where it should, its process runs once and never twice, a repeat of the create makes no second one, and
 * nothing is left when it is removed.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { layoutOf } from "../../bin/platform.ts"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import { hostPaths, runPaths, runtimeRootOf } from "../../node-bridge/runtime/paths.ts"
import type { Container } from "../../schema/api.ts"
import { MIB } from "../../schema/container.ts"
import type { GateStep, Gates } from "../support/gates.ts"
import { openGates } from "../support/gates.ts"
import { makeImage, temporaryFolder } from "../support/images.ts"
import { expectNothingLeft, leftoversOf, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { openPlatform } from "../support/platform.ts"
import type { TestPlatform, TestTenant, Wish } from "../support/platform.ts"
import { persist } from "../support/persist.ts"
import { waitFor } from "../support/wait-for.ts"

/** The node's memory, so that one container can fill it. */
const GIB = 1024 * MIB

let before: Snapshot
let state: string
let gates: Gates
let bench: TestPlatform
let tenant: TestTenant

beforeAll(async () => {
  state = temporaryFolder("crash")
  before = snapshot([state])
  gates = openGates(join(state, "tools"))
  bench = await openPlatform({
    state,
    bridgeArgs: ["--capacity-memory-bytes", String(GIB)],
    bridgeEnv: { BERTH_TOOLS: gates.dir },
  })
  tenant = await bench.tenant("crash")
  makeImage(join(layoutOf(state).images, "crash"), "latest", { env: ["PATH=/bin"] })
})
afterAll(async () => {
  await bench.stop()
  rmSync(state, { recursive: true, force: true })
  await expectNothingLeft(state, before)
})

/* Victims. */

type Victim = "worker" | "bridge"

/** The process of the control plane; Miniflare starts another when it dies. */
function workerPid(): number | undefined {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .find((pid) => {
      try {
        const [, , mode, parent] = /^\d+ \((.*)\) (\S) (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "latin1")) ?? []
        return Number(parent) === process.pid && mode !== "Z" && readFileSync(`/proc/${pid}/comm`, "latin1") === "workerd\n"
      } catch {
        return false // it ended while we looked
      }
    })
}

const pidOf = (victim: Victim) => (victim === "worker" ? workerPid() : bench.platform.bridge.pid)

/** Kills it with no chance to say a word. */
function strike(victim: Victim): number {
  const pid = pidOf(victim)
  if (pid === undefined) throw new Error(`no ${victim} runs`)
  process.kill(pid, "SIGKILL")
  return pid
}

/** Resolves when another has taken the place of the one with this pid. */
async function replaced(victim: Victim, pid: number): Promise<void> {
  await waitFor(`another ${victim}`, () => ![pid, undefined].includes(pidOf(victim)))
  await persist(() => tenant.call("GET", "/v1/containers"))
}

/* The container under test. */

let serial = 0
let marker: string
let most: number
let sampler: NodeJS.Timeout

const processesOf = (mark: string): number[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1") === `sleep\0${mark}\0`
      } catch {
        return false // it ended while we looked
      }
    })

beforeEach(() => {
  marker = `${process.pid}${String(++serial).padStart(3, "0")}`
  most = 0
  sampler = setInterval(() => (most = Math.max(most, processesOf(marker).length)), 50)
})
afterEach(() => clearInterval(sampler))

const wish = (more: Wish = {}): Wish => ({
  image: "localhost/crash",
  name: `crash-${marker}`,
  command: ["sh", "-c", `echo started; exec sleep ${marker}`],
  resources: { cpus: 0.1, memory_bytes: 64 * MIB, pids: 16 },
  ...more,
})

/** A create that may fail; its name is its key. */
const sleeper = (name: string) =>
  tenant.call("POST", "/v1/containers", {
    body: wish({ name, command: ["sleep", "1000"] }),
    headers: { "idempotency-key": name },
  })

async function create(body = wish(), key = marker): Promise<Container> {
  const response = await persist(() => tenant.call("POST", "/v1/containers", { body, headers: { "idempotency-key": key } }))
  expect(response.status).toBe(201)
  return (await response.json()) as Container
}
const now = async (id: string) => (await (await persist(() => tenant.call("GET", `/v1/containers/${id}`))).json()) as Container
const reaches = (id: string, status: string) =>
  waitFor(
    `${id} to be ${status}`,
    async () => {
      const seen = await now(id)
      return seen.status === status ? seen : undefined
    },
    20_000,
  )

/** Removes it, and sees that nothing of its run is on the machine any more. */
async function remove(id: string): Promise<void> {
  const { run } = await now(id)
  await persist(() => tenant.call("DELETE", `/v1/containers/${id}?force=true`))
  await reaches(id, "removed")
  if (run === null) throw new Error("a container that was started has a run")
  const host = hostPaths(layoutOf(state).node)
  const { dir, mounts, exitFile } = runPaths(host, run.id)
  expect(
    [dir, mounts, exitFile, join(runtimeRootOf(host, "crun"), run.id), join(host.socketsDir, run.id)].filter((path) =>
      existsSync(path),
    ),
  ).toEqual([])
  // A process that was killed may be seen for a moment yet.
  const left = () => leftoversOf(state, before).filter((item) => item.includes(run.id))
  await waitFor(`nothing of ${run.id}; there is ${left().join(", ")}`, () => left().length === 0)
}

async function expectOneProcess(id: string, run: string | undefined): Promise<void> {
  expect(processesOf(marker)).toHaveLength(1)
  expect(most).toBeLessThanOrEqual(1)
  const container = await now(id)
  expect(container.run).toMatchObject({ id: run, attempt: 1 })
  expect(await (await persist(() => tenant.call("GET", `/v1/containers/${id}/logs`))).text()).toBe("started\n")
}

/* Steps. */

interface Held {
  readonly body?: Wish
  /** Resolves when the create is at the step. */
  arrived(id: string): Promise<unknown>
  /** What holds it there is taken away. Idempotent. */
  release(): Promise<unknown> | void
}
/** Prepared before the create. */
type Step = () => Promise<Held>

const noRoom: Step = async () => {
  const resources = { cpus: 0.1, memory_bytes: GIB - 32 * MIB, pids: 16 }
  const { id } = await create(wish({ name: `filler-${marker}`, command: ["sleep", "1000"], resources }), `filler-${marker}`)
  let there = true
  return {
    arrived: (waiting) => waitFor("no room", async () => (await now(waiting)).reason?.code === "no_capacity"),
    release: async () => {
      if (there) await remove(id)
      there = false
    },
  }
}

const placed: Step = () => {
  const pid = pidOf("bridge") ?? 0
  process.kill(pid, "SIGSTOP")
  return Promise.resolve({
    arrived: (id) => waitFor("its place", async () => (await now(id)).run?.state === "placed"),
    release: () => void (pidOf("bridge") === pid && process.kill(pid, "SIGCONT")),
  })
}

const held =
  (step: GateStep): Step =>
  () => {
    const image = `crash-${marker}`
    // An image of its own: one that is here already would not be pulled.
    makeImage(join(layoutOf(state).images, image), "latest", { env: [`MARK=${marker}`, "PATH=/bin"] })
    return Promise.resolve({ body: wish({ image: `localhost/${image}` }), ...gates.hold(step) })
  }

const running: Step = () => Promise.resolve({ arrived: (id) => reaches(id, "running"), release: () => {} })

const STEPS: Record<string, Step> = {
  "when it was answered and no node has room": noRoom,
  "when it was placed and its node has not heard of it": placed,
  "while its image is copied": held("skopeo-copy"),
  "while its image is unpacked": held("umoci-unpack"),
  "while the runtime creates it": held("crun-create"),
  "when the runtime has created it and not yet said so": held("crun-created"),
  "while it runs": running,
}
const VICTIMS: readonly Victim[] = ["worker", "bridge"]
const CASES = Object.keys(STEPS).flatMap((when) => VICTIMS.map((victim) => ({ victim, when })))

describe("a create", () => {
  it.each(CASES)("gets where it should when the $victim is killed $when", async ({ victim, when }) => {
    const step = await (STEPS[when] ?? running)()
    try {
      const { id, run } = await create(step.body)
      await step.arrived(id)
      const pid = strike(victim)
      // A dead bridge's call is held on: were it to live, it would go on when a new bridge has done without it.
      if (victim === "worker" || when.includes("room")) await step.release()
      await replaced(victim, pid)
      await reaches(id, "running")
      if (victim === "bridge") expect(gates.waiting(), "calls of the dead bridge that live on").toEqual([])
      await step.release()
      expect((await create(step.body)).id).toBe(id)
      await expectOneProcess(id, run?.id)
      await remove(id)
      await waitFor("its process to be gone", () => processesOf(marker).length === 0)
      expect(most).toBeLessThanOrEqual(1)
    } finally {
      await step.release()
    }
  })

  it.each(VICTIMS)("tells the true end of a process that ended while the %s was dead", async (victim) => {
    const { id } = await create()
    await reaches(id, "running")
    const [init] = await waitFor("its process", () => (processesOf(marker).length === 1 ? processesOf(marker) : undefined))
    const pid = strike(victim)
    process.kill(init ?? 0, "SIGKILL")
    await replaced(victim, pid)
    const { run, reason } = await reaches(id, "exited")
    expect(run, JSON.stringify(reason)).toMatchObject({ state: "failed", attempt: 1, exit: { code: 137, by: "process" } })
    await remove(id)
  })

  it("is made once, at whatever moment the worker dies under it, when it is repeated with its key", async () => {
    const ids: string[] = []
    let cut = 0
    for (const afterMs of [8, 16, 24]) {
      const keys = Array.from({ length: 4 }, (_, i) => `burst-${marker}-${afterMs}-${i}`)
      const first = keys.map((key) => sleeper(key).then((response) => response.json() as Promise<Container>))
      await setTimeout(afterMs) // no state to wait for: what is meant is any moment of the call
      const pid = strike("worker")
      const answers = await Promise.allSettled(first)
      await replaced("worker", pid)
      for (const [i, key] of keys.entries()) {
        const { id } = (await (await persist(() => sleeper(key))).json()) as Container
        ids.push(id)
        const answer = answers[i]
        if (answer?.status === "fulfilled") expect(id).toBe(answer.value.id)
        else cut++
      }
    }
    expect(cut, "calls that the worker's death cut off").toBeGreaterThan(0)
    const list = await persist(() => tenant.call("GET", "/v1/containers"))
    const { items } = (await list.json()) as { items: Container[] }
    expect(items.map(({ id }) => id).toSorted()).toEqual(ids.toSorted())
    await Promise.all(ids.map(async (id) => expect((await reaches(id, "running")).run).toMatchObject({ attempt: 1 })))
    await Promise.all(ids.map(remove))
  })
})

describe("a container", () => {
  it("ends as the host's fault when its monitor is killed, and leaves nothing", async () => {
    const { id } = await create()
    const { run } = await reaches(id, "running")
    const record = readRecord(join(layoutOf(state).node, "runs", run?.id ?? "", "run.jsonl"))
    process.kill(record?.monitor?.pid ?? Number.NaN, "SIGKILL")
    const ended = await reaches(id, "exited")
    expect(ended.run).toMatchObject({ state: "failed", exit: { by: "host" } })
    expect(ended.reason?.code).toBe("monitor_lost")
    await waitFor("its process to be gone", () => processesOf(marker).length === 0)
    await remove(id)
  })
})
