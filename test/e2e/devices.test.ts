/** Accelerators as a tenant has them, over HTTP and on a real node: real devices, described to it by files. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { layoutOf } from "../../bin/platform.ts"
import { Container } from "../../schema/api.ts"
import { describeDevices, makeNodeOf } from "../support/devices.ts"
import { busyboxLayer, makeImage, temporaryFolder } from "../support/images.ts"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { openPlatform } from "../support/platform.ts"
import type { TestPlatform, TestTenant, Wish } from "../support/platform.ts"
import { buildProbe } from "../support/probes.ts"
import { tarArchive, tarEntry } from "../support/tar.ts"
import { waitFor } from "../support/wait-for.ts"

const KIND = "berth.test/fuse"
const state = temporaryFolder("devices")
const host = temporaryFolder("host-devices")
const node = (name: string) => join(host, "nodes", name)
let before: Snapshot
let berth: TestPlatform
let tenant: TestTenant

beforeAll(async () => {
  before = snapshot([state])
  buildProbe("devices", join(host, "devprobe"))
  const probe = tarEntry({ path: "bin/devprobe", data: readFileSync(join(host, "devprobe")) })
  makeImage(join(layoutOf(state).images, "probe"), "latest", { layers: [busyboxLayer(), tarArchive(probe)] })
  for (const name of ["a", "b"]) makeNodeOf(node(name), "fuse")
  mkdirSync(join(host, "cdi"))
  describeDevices(join(host, "cdi", "fuse.json"), {
    kind: KIND,
    devices: ["a", "b"].map((name) => ({
      name,
      containerEdits: { deviceNodes: [{ path: "/dev/fuse", hostPath: node(name) }] },
    })),
  })
  // Device a is clean only once somebody says so.
  const scrub = join(host, "scrub")
  writeFileSync(scrub, `#!/bin/sh\n[ "$1" != "${KIND}=a" ] || [ -e ${host}/clean ]\n`, { mode: 0o755 })
  berth = await openPlatform({ state, bridgeArgs: ["--cdi-dir", join(host, "cdi"), "--device-scrub", scrub] })
  tenant = await berth.tenant("accelerated")
})
afterAll(() => {
  for (const dir of [state, host]) rmSync(dir, { recursive: true, force: true })
})

const wish = (changes: Wish = {}): Wish => ({
  image: "localhost/probe",
  command: ["sh", "-c", "devprobe fuse /dev/fuse; exec sleep 1000"],
  network: { egress: "none" },
  stop: { timeout_seconds: 0 },
  resources: { cpus: 0.1, memory_bytes: 32 * 1024 * 1024, pids: 16, accelerators: [{ kind: KIND, count: 1 }] },
  ...changes,
})
const running = async (changes: Wish = {}) => tenant.reaches((await tenant.create(wish(changes))).id, "running")
const now = async (id: string) => Container.parse(await (await tenant.call("GET", `/v1/containers/${id}`)).json())

it("gives each container a device of its own, and moves it when that is lost", async () => {
  const first = await running({ restart: { policy: "always" } })
  expect(first.run?.accelerators).toEqual([`${KIND}=a`])
  await waitFor("its use", async () => (await tenant.log(first.id)) === "fuse ok\n")

  rmSync(node("a"))
  const [lost] = await waitFor(
    "the event",
    async () => {
      const events = await tenant.events(`container=${first.id}&types=container.accelerator_lost`)
      return events.length > 0 && events
    },
    20_000,
  )
  expect(lost?.data).toMatchObject({ reason: { code: "accelerator_lost" } })
  const moved = await waitFor(
    "the other device",
    async () => {
      const { status, run } = await now(first.id)
      return status === "running" && run?.accelerators[0] === `${KIND}=b` && run
    },
    20_000,
  )
  expect(moved.attempt).toBeGreaterThan(1)

  // The lost device is back, and was not scrubbed yet: the next container waits for it.
  makeNodeOf(node("a"), "fuse")
  const second = await tenant.create(wish())
  const waiting = await waitFor("its reason", async () => {
    const container = await now(second.id)
    return container.status === "scheduling" && container.reason?.message.includes(KIND) && container
  })
  expect(waiting.reason?.code).toBe("no_capacity")
  writeFileSync(join(host, "clean"), "")
  const served = await tenant.reaches(second.id, "running", 60)
  expect(served.run?.accelerators).toEqual([`${KIND}=a`])

  // Nothing is free for a third, until somebody makes room.
  const third = await tenant.create(wish())
  await waitFor("its wait", async () => (await now(third.id)).reason?.code === "no_capacity")
  await tenant.remove(first.id)
  const last = await tenant.reaches(third.id, "running", 60)
  expect(last.run?.accelerators).toEqual([`${KIND}=b`])
  for (const { id } of [second, third]) await tenant.remove(id)
}, 120_000)

it("leaves nothing behind", async () => {
  await berth.stop()
  await expectNothingLeft(state, before)
})
