/**
 * A node that is emptied, through the whole platform: real containers leave it for a second node, which runs nothing real but
 * speaks for it all the same. Each leaves as it may, progress can be read, and nothing is left on the host.
 */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { type BridgeProcess, startBridge } from "../../bin/bridge-process.ts"
import { layoutOf } from "../../bin/platform.ts"
import type { Container, NodeView } from "../../schema/api.ts"
import { makeImage, temporaryFolder } from "../support/images.ts"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { openPlatform } from "../support/platform.ts"
import type { TestPlatform, TestTenant } from "../support/platform.ts"
import { waitFor } from "../support/wait-for.ts"

const DEADLINE_SECONDS = 4

const state = temporaryFolder("drain")
let before: Snapshot
let berth: TestPlatform
let tenant: TestTenant
let second: BridgeProcess | undefined

const nodes = async () => (await berth.platform.operator.get<{ items: NodeView[] }>("/v1/admin/nodes")).items
const regionOf = async (id: string) => (await read(id)).run?.node_region
const read = async (id: string): Promise<Container> => (await tenant.call("GET", `/v1/containers/${id}`)).json() as never

async function joinSecond(): Promise<void> {
  const { join_token } = await berth.platform.operator.post<{ join_token: string }>("/v1/admin/join-tokens", {
    labels: { region: "second" },
  })
  const joinTokenFile = join(state, "second-token")
  writeFileSync(joinTokenFile, join_token, { mode: 0o600 })
  second = startBridge({
    state: join(state, "second"),
    url: berth.platform.url,
    images: layoutOf(state).images,
    runtime: "crun",
    joinTokenFile,
    extraArgs: ["--controller", "fake"],
  })
  await second.ready
}

beforeAll(async () => {
  before = snapshot([state])
  berth = await openPlatform({ state })
  tenant = await berth.tenant("moves")
  makeImage(join(layoutOf(state).images, "app"), "latest", { env: ["PATH=/bin"] })
})
afterAll(async () => {
  await second?.stop("drain")
  await berth.stop()
  await expectNothingLeft(state, before)
})

it("a drained node is left by each container in its own way, and by all of them at the deadline", async () => {
  const create = async (wish: object) => {
    const made = await tenant.create({ image: "localhost/app:latest", command: ["sh", "-c", "sleep 600"], ...wish })
    return tenant.reaches(made.id, "running")
  }
  const [startFirst, stopFirst, stays] = await Promise.all([
    create({ restart: { policy: "always" }, drain: "start_first", stop: { timeout_seconds: 1 } }),
    create({ restart: { policy: "always" }, drain: "stop_first", stop: { timeout_seconds: 1 } }),
    create({ stop: { timeout_seconds: 0 } }),
  ])
  const [first] = await nodes()
  await joinSecond()

  const path = `/v1/admin/nodes/${first?.id}`
  const draining = await berth.platform.operator.post<NodeView>(`${path}/drain`, { deadline_seconds: DEADLINE_SECONDS })
  expect(draining).toMatchObject({ cordoned: true, accepting: false, drain: { runs_at_start: 3 } })
  const moved = [startFirst, stopFirst]
  for (const { id } of moved)
    await waitFor("its new run", async () => (await regionOf(id)) === "second" && (await read(id)).status === "running")
  expect(await read(stays.id)).toMatchObject({ status: "running", run: { id: stays.run?.id } })

  // What starts first is never away: its next run was there before the one that it takes over from had ended.
  const ended = async (id: string) => (await read(id)).history.at(-1)?.ended_at ?? null
  const endOfOld = await waitFor("the old run's end", () => ended(startFirst.id))
  const startOfNew = (await read(startFirst.id)).run?.started_at ?? ""
  expect(Date.parse(startOfNew)).toBeLessThanOrEqual(Date.parse(endOfOld))
  const stopped = await waitFor("the old run's end", () => ended(stopFirst.id))
  expect(Date.parse((await read(stopFirst.id)).run?.started_at ?? "")).toBeGreaterThanOrEqual(Date.parse(stopped))

  const drained = await waitFor("an empty node", async () => {
    const node = await berth.platform.operator.get<NodeView>(path)
    return node.drain?.runs_left === 0 ? node : undefined
  })
  expect(drained).toMatchObject({ cordoned: true, drain: { runs_at_start: 3, runs_left: 0 }, reserved: { runs: 0 } })
  expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(drained.drain?.deadline ?? ""))
  expect(await tenant.reaches(stays.id, "exited")).toMatchObject({
    reason: { code: "node_draining" },
    run: { id: stays.run?.id, state: "stopped", exit: { by: "platform" } },
  })

  const uncordoned = await berth.platform.operator.post<NodeView>(`${path}/uncordon`)
  expect(uncordoned).toMatchObject({ cordoned: false, drain: null, accepting: true })
  for (const { id } of [startFirst, stopFirst, stays]) await tenant.remove(id)
})
