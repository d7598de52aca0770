/** What a tenant does with containers on an ordinary day, over HTTP and on a real node: steer, read, follow, wait for room. */
import { rmSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { makeHelloImage } from "../../bin/hello-image.ts"
import { layoutOf } from "../../bin/platform.ts"
import { Container, Event } from "../../schema/api.ts"
import { MIB } from "../../schema/container.ts"
import { Isolation } from "../../schema/isolation.ts"
import { readEvents, readText } from "../support/event-stream.ts"
import { temporaryFolder } from "../support/images.ts"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { openPlatform, problemOf } from "../support/platform.ts"
import type { TestPlatform, TestTenant, Wish } from "../support/platform.ts"
import { waitFor } from "../support/wait-for.ts"

const GIB = 1024 * MIB
/** Room for one container of 3 GiB beside all the small ones. */
const CAPACITY = ["--capacity-cpus", "64", "--capacity-memory-bytes", String(4 * GIB)]

const state = temporaryFolder("good-days")
let before: Snapshot
let berth: TestPlatform
let tenant: TestTenant

beforeAll(async () => {
  before = snapshot([state])
  await makeHelloImage(layoutOf(state).images)
  berth = await openPlatform({ state, bridgeArgs: CAPACITY })
  tenant = await berth.tenant("ordinary")
})
afterAll(() => rmSync(state, { recursive: true, force: true }))

const sh = (script: string, wish: Wish = {}): Wish => ({
  image: "localhost/hello",
  command: ["sh", "-c", script],
  stop: { timeout_seconds: 1 },
  ...wish,
})
/** Says so, then waits for SIGUSR1, says so on the other stream, and ends. */
const UNTIL_TOLD = "trap 'echo told >&2; exit 0' USR1; echo waiting; while :; do sleep 0.05; done"

async function running(wish: Wish): Promise<Container> {
  return tenant.reaches((await tenant.create(wish)).id, "running")
}
/** A signal may come before the shell has set its trap; the line that it prints first comes after. */
const firstLine = (id: string) => waitFor("the first line", async () => (await tenant.log(id)) !== "")

describe.concurrent("a container", () => {
  it("is paused and stands still, and goes on where it was", async () => {
    const { id } = await running(sh("i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done"))
    await firstLine(id)
    await tenant.act(id, "pause")
    expect((await tenant.reaches(id, "paused")).actions).toEqual(["unpause", "stop", "restart", "kill"])
    const lines = async () => (await tenant.log(id)).split("\n").length
    const still = await lines()
    const waited = await tenant.call("GET", `/v1/containers/${id}/wait?status=running&timeout=0.5`)
    expect((await problemOf(waited)).code).toBe("wait_timeout")
    expect(await lines()).toBe(still)
    await tenant.act(id, "unpause")
    await tenant.reaches(id, "running")
    await waitFor("the counting to go on", async () => (await lines()) > still)
    await tenant.remove(id)
  })

  it("is sent a signal that it may handle, and one that it may not", async () => {
    const { id } = await running(sh("trap 'echo caught' USR2; echo ready; while :; do sleep 0.05; done"))
    await firstLine(id)
    await tenant.act(id, "kill", { signal: "SIGUSR2" })
    await waitFor("the signal", async () => (await tenant.log(id)).includes("caught"))
    await tenant.act(id, "kill")
    const { run, reason } = await tenant.reaches(id, "exited")
    expect(run).toMatchObject({ state: "stopped", exit: { code: 137, signal: "SIGKILL", by: "tenant", oom_killed: false } })
    expect(reason?.message).toContain("SIGKILL")
  })

  it("is asked to stop with its own signal first, and says what it made of it", async () => {
    const { id } = await running(
      sh("trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.05; done", { stop: { signal: "SIGINT" } }),
    )
    await firstLine(id)
    await tenant.act(id, "stop")
    const { run } = await tenant.reaches(id, "exited")
    expect(run).toMatchObject({ state: "stopped", exit: { code: 7, signal: null, by: "tenant", log_tail: ["ready", "bye"] } })
  })

  it("is answered when it runs, by the one call that makes it, for a caller that would rather wait", async () => {
    const create = async (wish: Wish) =>
      Container.parse(await (await tenant.call("POST", "/v1/containers", { body: wish, headers: { prefer: "wait=30" } })).json())
    const { id, status, run } = await create({ ...sh("sleep 1000"), resources: { cpus: 0.25, memory_bytes: 64 * MIB } })
    expect({ status, state: run?.state, attempt: run?.attempt }).toEqual({ status: "running", state: "running", attempt: 1 })
    await tenant.remove(id)
    const missing = await create({ image: "localhost/no-such-image" })
    expect(missing).toMatchObject({ status: "exited", reason: { code: "image_not_found" } })
    await tenant.remove(missing.id)
  })

  it("that fills its disk is told of it by an event, and lives on", async () => {
    const resources = { cpus: 0.25, memory_bytes: 64 * MIB, disk_bytes: 16 * MIB }
    const { id } = await running(sh("cat /dev/zero > /big; rm /big; echo room; sleep 1000", { resources }))
    const full = await running(sh("cat /dev/zero > /big; sleep 1000", { resources }))
    await waitFor(
      "the event",
      async () => {
        const [event] = await tenant.events(`container=${full.id}&types=container.disk_full`)
        return event?.data.reason?.code === "disk_full"
      },
      15_000,
    )
    await waitFor("room", async () => (await tenant.log(id)).includes("room"))
    expect((await tenant.reaches(full.id, "running")).status).toBe("running")
    await Promise.all([tenant.remove(id), tenant.remove(full.id)])
  })

  it("is restarted as a new run of the same container", async () => {
    const first = await running(sh("echo up; sleep 1000"))
    await tenant.act(first.id, "restart", { timeout_seconds: 0 })
    const second = await waitFor("the second run", async () => {
      const now = await tenant.reaches(first.id, "running")
      return now.run?.attempt === 2 ? now : undefined
    })
    expect(second.run?.id).not.toBe(first.run?.id)
    expect(second.restarts).toBe(0)
    await waitFor("both runs' lines", async () => (await tenant.log(first.id)) === "up\nup\n")
    await tenant.remove(first.id)
  })

  it("that fails is started again by its policy, each time later, and its log goes over all runs", async () => {
    const { id, run, restarts, reason } = await tenant.through(
      sh("echo try; exit 3", { restart: { policy: "on-failure", max_retries: 2 } }),
    )
    expect({ restarts, attempt: run?.attempt, code: run?.exit?.code }).toEqual({ restarts: 2, attempt: 3, code: 3 })
    expect(reason).toEqual({ code: "exited", message: "The process exited with code 3." })
    expect(await tenant.log(id)).toBe("try\ntry\ntry\n")
    expect(await tenant.log(id, `?run=${run?.id}`)).toBe("try\n")
    const planned = await tenant.events(`container=${id}&types=container.restart_scheduled`)
    const waits = planned.map(({ time, data }) => Date.parse(data.next_run_at ?? "") - Date.parse(time))
    expect(waits).toEqual([100, 200])
    const began = await tenant.events(`container=${id}&types=container.running`)
    expect(began.map(({ run_id }) => run_id)).toHaveLength(3)
    for (const [i, { data }] of planned.entries()) {
      expect(Date.parse(began[i + 1]?.time ?? "")).toBeGreaterThanOrEqual(Date.parse(data.next_run_at ?? ""))
    }
  })

  it("that ends well is not started again by on-failure", async () => {
    const { restarts, run } = await tenant.through(sh("true", { restart: { policy: "on-failure" } }))
    expect({ restarts, state: run?.state }).toEqual({ restarts: 0, state: "completed" })
  })
})

describe.concurrent("a wish", () => {
  it("for a read-only root leaves only /tmp and /run to write to", async () => {
    const script = "for d in / /bin /etc /tmp /run /dev/shm; do touch $d/x 2>/dev/null && echo $d; done; touch /x"
    const { id, run } = await tenant.through(sh(script, { read_only: true }))
    expect(run?.exit?.code).toBe(1)
    expect((await tenant.log(id, "?stream=stdout")).split("\n")).toEqual(["/tmp", "/run", "/dev/shm", ""])
    expect(await tenant.log(id, "?stream=stderr")).toContain("Read-only file system")
  })

  it("for a user, variables, a folder and arguments is kept", async () => {
    const { id, run } = await tenant.through({
      image: "localhost/hello",
      command: ["sh", "-c", 'echo "$(id -u):$(id -g) $A $(pwd) $1"', "sh"],
      args: ["last"],
      user: "nobody:65534",
      env: { A: "a b=c" },
      workdir: "/tmp",
    })
    expect(run?.exit?.code).toBe(0)
    expect(await tenant.log(id)).toBe("65534:65534 a b=c /tmp last\n")
  })

  it("for no egress leaves loopback alone, as seen from inside and from outside", async () => {
    const address = new URL(berth.platform.url)
    const script = `ls /sys/class/net; wget -T 2 -q -O - http://${address.host}/healthz || echo closed; ${UNTIL_TOLD}`
    const { id } = await running(sh(script, { network: { egress: "none" } }))
    await waitFor("the look around", async () => (await tenant.log(id)).includes("waiting"))
    expect(await tenant.log(id, "?stream=stdout")).toBe("lo\nclosed\nwaiting\n")
    const read = Isolation.parse(await (await tenant.call("GET", `/v1/containers/${id}/isolation`)).json())
    expect(read).toMatchObject({ network: { mode: "loopback", interfaces: ["lo"] }, verdict: "holds", deviations: [] })
    expect(read.limits).toMatchObject({ cpus: 0.25, memory_bytes: 64 * MIB, pids: 64 })
    await tenant.remove(id)
  })

  it("for another network, while it runs, is made true in place, as seen from outside", async () => {
    const { id } = await tenant.reaches((await tenant.create(sh("sleep 60"))).id, "running")
    const network = { egress: ["192.0.2.0/24"], egress_bytes_per_second: 1_000_000 }
    const changed = await tenant.call("PATCH", `/v1/containers/${id}`, { body: { network } })
    expect(changed.status).toBe(200)
    const inForce = async () => Isolation.parse(await (await tenant.call("GET", `/v1/containers/${id}/isolation`)).json()).network
    await waitFor("the limits", async () => (await inForce()).egress_bytes_per_second !== null)
    const { egress, egress_bytes_per_second } = await inForce()
    expect(egress).toEqual(network.egress)
    expect(Math.abs((egress_bytes_per_second ?? 0) - 1_000_000)).toBeLessThan(100_000)
    await tenant.call("PATCH", `/v1/containers/${id}`, { body: { network: { egress: "none", egress_bytes_per_second: null } } })
    await waitFor("the link to go", async () => (await inForce()).mode === "loopback")
    expect((await tenant.events(`container=${id}&types=container.updated`)).map(({ run_id }) => run_id)).toHaveLength(2)
    await tenant.remove(id)
  })

  it("for fewer capabilities and system calls is kept, as seen from inside and from outside", async () => {
    const script = `chown 1 /tmp && echo owned; chmod 700 /tmp || echo closed; ${UNTIL_TOLD}`
    const { id } = await running(sh(script, { capabilities: ["CAP_CHOWN"], seccomp: { deny: ["chmod", "fchmodat"] } }))
    await waitFor("the look around", async () => (await tenant.log(id)).includes("waiting"))
    expect(await tenant.log(id, "?stream=stdout")).toBe("owned\nclosed\nwaiting\n")
    const read = Isolation.parse(await (await tenant.call("GET", `/v1/containers/${id}/isolation`)).json())
    expect(read).toMatchObject({ capabilities: { effective: ["CAP_CHOWN"], bounding: ["CAP_CHOWN"] }, deviations: [] })
    await tenant.remove(id)
    const { reason } = await tenant.through(sh("true", { seccomp: { deny: ["chmodd"] } }))
    expect(reason).toMatchObject({ code: "seccomp_call_unknown", message: expect.stringContaining("“chmodd”") })
  })

  it("for the longest life ends the run when that is over, by the platform", async () => {
    const { run, reason } = await tenant.through(sh("sleep 1000", { max_lifetime_seconds: 1 }))
    expect(run?.exit?.by).toBe("platform")
    expect(reason?.code).toBe("lifetime_exceeded")
  })

  it("to be removed on exit leaves a container that can still be read", async () => {
    const { id } = await tenant.create(sh("echo once", { remove_on_exit: true }))
    expect((await tenant.reaches(id, "removed")).run?.exit?.code).toBe(0)
    const listed = (await (await tenant.call("GET", "/v1/containers?limit=1000")).json()) as { items: { id: string }[] }
    expect(listed.items.map((item) => item.id)).not.toContain(id)
  })
})

const sse = (id: string, query = "", headers: Record<string, string> = {}) =>
  tenant.call("GET", `/v1/containers/${id}/logs${query}`, { headers: { accept: "text/event-stream", ...headers } })

describe.concurrent("logs", () => {
  const LINES = "echo one; echo two >&2; sleep 0.1; echo three; echo four >&2"

  it("are both streams, one, the last lines, those since a time, and with their times", async () => {
    const { id } = await tenant.through(sh(LINES))
    expect((await tenant.log(id)).split("\n").toSorted()).toEqual(["", "four", "one", "three", "two"])
    expect(await tenant.log(id, "?stream=stderr")).toBe("two\nfour\n")
    expect(await tenant.log(id, "?stream=stdout&tail=1")).toBe("three\n")
    expect(await tenant.log(id, "?tail=0")).toBe("")
    const timed = (await tenant.log(id, "?stream=stdout&timestamps=true")).trim().split("\n")
    expect(timed).toEqual([expect.stringMatching(/^\S+T\S+\.\d{9}Z one$/), expect.stringMatching(/^\S+Z three$/)])
    const since = timed[1]?.split(" ")[0] ?? ""
    expect(await tenant.log(id, `?stream=stdout&since=${since}`)).toBe("three\n")
    expect(await tenant.log(id, "?since=3600&stream=stdout")).toBe("one\nthree\n")
    expect((await problemOf(await tenant.call("GET", `/v1/containers/${id}/logs?since=noon`))).errors[0]?.pointer).toBe("?since")
  })

  it("are followed line by line until the run ends", async () => {
    const { id } = await running(sh(UNTIL_TOLD))
    let told = false
    const text = await readText(await tenant.call("GET", `/v1/containers/${id}/logs?follow=true`), (seen) => {
      if (seen === "waiting\n" && !told) {
        told = true
        void tenant.act(id, "kill", { signal: "SIGUSR1" })
      }
      return false
    })
    expect(text).toBe("waiting\ntold\n")
    expect((await tenant.reaches(id, "exited")).run?.exit?.code).toBe(0)
  })

  it("as a stream of events go on after the last one that was seen, with none twice", async () => {
    const { id } = await running(sh(`echo one; echo two; echo three; ${UNTIL_TOLD}`))
    const cut = await readEvents(await sse(id, "?follow=true"), (seen) => seen.length >= 2)
    expect(cut.slice(0, 2)).toMatchObject([
      { event: "stdout", data: { text: "one", stream: "stdout", partial: false } },
      { event: "stdout", data: { text: "two" } },
    ])
    await firstLine(id)
    await waitFor("the last line", async () => (await tenant.log(id)).includes("waiting"))
    await tenant.act(id, "kill", { signal: "SIGUSR1" })
    const rest = await readEvents(await sse(id, "?follow=true", { "last-event-id": cut[1]?.id ?? "" }))
    expect(rest.map(({ event, data }) => [event, (data as { text: string }).text])).toEqual([
      ["stdout", "three"],
      ["stdout", "waiting"],
      ["stderr", "told"],
    ])
  })
})

describe.concurrent("events", () => {
  const LIFE = ["created", "scheduling", "pulling", "starting", "running", "exited", "stopping", "removed"].map(
    (word) => `container.${word}`,
  )

  it("tell a container's whole life in order, in pages", async () => {
    const { id } = await tenant.through(sh("exit 5"))
    await tenant.remove(id)
    const path = `/v1/events?container=${id}&limit=3`
    const types: string[] = []
    let cursor: string | null = ""
    while (cursor !== null) {
      const answer = await tenant.call("GET", cursor === "" ? path : `${path}&after=${encodeURIComponent(cursor)}`)
      const page = (await answer.json()) as { items: unknown[]; next_cursor: string | null }
      types.push(...page.items.map((item) => Event.parse(item).type))
      cursor = page.next_cursor
    }
    // A quick node may report several steps at once; what is told keeps its order.
    expect(types).toEqual(LIFE.filter((type) => types.includes(type)))
    expect(types).toEqual(
      expect.arrayContaining(["container.created", "container.running", "container.exited", "container.removed"]),
    )
  })

  it("are streamed as they happen, and go on after the last one that was seen", async () => {
    const { id } = await tenant.create(sh("sleep 1000", { start: false }))
    const follow = (headers: Record<string, string>) => tenant.call("GET", `/v1/events?container=${id}&follow=true`, { headers })
    const first = await readEvents(await follow({ accept: "text/event-stream" }), (seen) => seen.length > 0)
    expect(first).toMatchObject([{ event: "container.created", data: { container_id: id } }])
    const stream = follow({ "last-event-id": first[0]?.id ?? "" })
    await tenant.act(id, "start")
    const rest = await readEvents(await stream, (seen) => seen.at(-1)?.event === "container.running")
    expect(rest[0]?.event).toBe("container.scheduling")
    await tenant.remove(id)
  })
})

describe("room on the node", () => {
  it("that is not there keeps a container waiting with the counted reasons, until another one leaves", async () => {
    const large = sh("sleep 1000", { resources: { cpus: 0.25, memory_bytes: 3 * GIB, pids: 16 } })
    const first = await running(large)
    const { id } = await tenant.create(large)
    const waiting = await waitFor("the refusal", async () => {
      const now = Container.parse(await (await tenant.call("GET", `/v1/containers/${id}`)).json())
      return now.reason === null ? undefined : now
    })
    expect(waiting).toMatchObject({ status: "scheduling", run: { state: "pending", node_region: null } })
    expect(waiting.reason).toEqual({
      code: "no_capacity",
      message: "No node can hold this container now. 1 node: has too little memory free.",
    })
    expect(await tenant.events(`container=${id}&types=container.unplaceable`)).toHaveLength(1)
    await tenant.remove(first.id)
    // Far below the minute after which a waiting run is looked at anyway: the room is told of, not asked for.
    expect((await tenant.reaches(id, "running", 5)).reason).toBeNull()
    await tenant.remove(id)
  })
})

describe("all of it together", () => {
  it("leaves nothing behind, though containers were left running", async () => {
    await running(sh("sleep 1000"))
    await berth.stop()
    await expectNothingLeft(state, before)
  })
})
