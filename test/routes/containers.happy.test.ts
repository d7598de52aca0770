/** A tenant's way through the API, against real objects and a node that enrolled and connected as a host does. */
import { beforeAll, describe, expect, it } from "vitest"
import { Container, Event } from "../../schema/api.ts"
import { MIB } from "../../schema/container.ts"
import { Isolation } from "../../schema/isolation.ts"
import type { LogEntry } from "../../schema/protocol.ts"
import { isolation } from "../../worker/examples.ts"
import type { TestTenant } from "../support/api.ts"
import { aCreatedContainer, aTenant, call, problemOf } from "../support/api.ts"
import { anEnrolledNode } from "../support/enrolled-node.ts"
import type { FakeNode } from "../support/fake-node.ts"
import { waitFor } from "../support/wait-for.ts"

let tenant: TestTenant
let node: FakeNode
beforeAll(async () => {
  tenant = await aTenant()
  node = (await anEnrolledNode({ labels: { region: "operators-word" } })).node
})

const get = (path: string, headers: Record<string, string> = {}) => call("GET", path, { token: tenant.token, headers })
const post = (path: string, body?: object) => call("POST", path, { token: tenant.token, body })
const containerOf = async (response: Response, status = 200) => {
  expect(response.status).toBe(status)
  return Container.parse(await response.json())
}
async function aRunningContainer(fields: object = {}): Promise<Container> {
  const { id } = await containerOf(
    await post("/v1/containers", { image: "localhost/hello:latest", resources: { cpus: 0.1 }, ...fields }),
    201,
  )
  return containerOf(await get(`/v1/containers/${id}/wait?status=running&timeout=10`))
}

describe("a container", () => {
  it("is created, with the place to read it", async () => {
    const response = await post("/v1/containers", { image: "localhost/hello:latest", name: "first", start: false })
    const created = await containerOf(response.clone(), 201)
    expect(response.headers.get("location")).toBe(`/v1/containers/${created.id}`)
    expect(created).toMatchObject({ name: "first", status: "created", run: null, image: "localhost/hello:latest" })
    expect(await containerOf(await get("/v1/containers/first"))).toEqual(created)
  })

  it("is answered once it runs, or is stopped, for a caller that would rather wait", async () => {
    const headers = { prefer: "wait=10" }
    const body = { image: "localhost/hello:latest", resources: { cpus: 0.1 } }
    const created = await call("POST", "/v1/containers", { token: tenant.token, body, headers })
    expect(created.headers.get("preference-applied")).toBe("wait=10")
    const running = await containerOf(created, 201)
    expect(running.status).toBe("running")
    const stopped = await call("POST", `/v1/containers/${running.id}/stop`, { token: tenant.token, headers })
    expect(stopped.headers.get("preference-applied")).toBe("wait=10")
    expect((await containerOf(stopped)).status).toBe("exited")
    // Nothing to wait for: a preference is not an error, and is not said to count.
    const removed = await call("DELETE", `/v1/containers/${running.id}`, { token: tenant.token, headers })
    expect({ status: removed.status, applied: removed.headers.get("preference-applied") }).toEqual({ status: 200, applied: null })
  })

  it("has its network changed while it runs, by a merge patch, once for each idempotency key", async () => {
    const { id, run } = await aRunningContainer({ network: { egress_bytes_per_second: 9_000 } })
    const patch = (body: object, type: string) =>
      call("PATCH", `/v1/containers/${id}`, {
        token: tenant.token,
        body: JSON.stringify(body),
        headers: { "content-type": type, "idempotency-key": `k-${id}` },
      })
    const body = { network: { egress: ["192.0.2.0/24"], egress_bytes_per_second: null } }
    const changed = await containerOf(await patch(body, "application/merge-patch+json"))
    expect(changed).toMatchObject({ status: "running", run: { id: run?.id }, network: { egress: ["192.0.2.0/24"] } })
    expect(changed.network.egress_bytes_per_second).toBeUndefined()
    await expect.poll(() => run && node.assignments.get(run.id)?.spec.network).toEqual({ egress: ["192.0.2.0/24"] })
    const again = await patch(body, "application/json")
    expect(again.headers.get("idempotency-replayed")).toBe("true")
    expect((await problemOf(await patch({ network: { egress: "open" } }, "application/json"))).code).toBe("idempotency_mismatch")
  })

  it("has nothing else changed, and nothing by a value that means nothing", async () => {
    const { id } = await aCreatedContainer(tenant.token)
    const wrong: [body: object, pointer: string][] = [
      [{ image: "other" }, "/image"],
      [{ network: null }, "/network"],
      [{ network: { egress: null } }, "/network/egress"],
      [{ network: { egress: [] } }, "/network/egress"],
      [{ network: { egress: ["192.0.2.0/24", "10.1.0.0/16"] } }, "/network/egress/1"],
      [{ network: { egress_bytes_per_second: 0 } }, "/network/egress_bytes_per_second"],
      [{ network: { dns: "x" } }, "/network/dns"],
    ]
    for (const [body, pointer] of wrong) {
      const problem = await problemOf(await call("PATCH", `/v1/containers/${id}`, { token: tenant.token, body }))
      expect([problem.status, problem.errors[0]?.pointer]).toEqual([422, pointer])
    }
  })

  it("that no profile of its kind can honour is refused by name", async () => {
    const wrong: [body: object, pointer: string][] = [
      [{ profile: "sandboxed", seccomp: { deny: ["ptrace"] } }, "/seccomp/deny"],
      [{ profile: "sandboxed", resources: { memory_bytes: 32 * MIB } }, "/resources/memory_bytes"],
      [{ network: { egress: ["192.0.2.0/24", "169.254.169.254/32"] } }, "/network/egress/1"],
    ]
    for (const [body, pointer] of wrong) {
      const problem = await problemOf(await post("/v1/containers", { image: "a", ...body }))
      expect([problem.status, problem.errors.map((error) => error.pointer)]).toEqual([422, [pointer]])
    }
  })

  it("runs on a node, in the region that the operator gave it, and tells its timings", async () => {
    const running = await aRunningContainer({ name: "runner" })
    expect(running).toMatchObject({ status: "running", run: { state: "running", attempt: 1, node_region: "operators-word" } })
    expect(Object.keys(running.run?.timings ?? {})).toContain("start")
  })

  it("is paused, let go on, restarted, stopped, started, killed and removed", async () => {
    const { id } = await aRunningContainer()
    const reaches = async (status: string) => containerOf(await get(`/v1/containers/${id}/wait?status=${status}&timeout=10`))
    await containerOf(await post(`/v1/containers/${id}/pause`))
    expect((await reaches("paused")).actions).toContain("unpause")
    await containerOf(await post(`/v1/containers/${id}/unpause`))
    const before = await reaches("running")
    await containerOf(await post(`/v1/containers/${id}/restart`, { timeout_seconds: 1 }))
    const after = await waitFor("the next run", async () => {
      const now = await reaches("running")
      return now.run?.id === before.run?.id ? undefined : now
    })
    expect(after.run?.attempt).toBe(2)
    await containerOf(await post(`/v1/containers/${id}/stop`, {}))
    expect((await reaches("exited")).run?.exit).toMatchObject({ by: "tenant" })
    await containerOf(await post(`/v1/containers/${id}/start`))
    await reaches("running")
    const removed = await containerOf(await call("DELETE", `/v1/containers/${id}?force=true`, { token: tenant.token }))
    expect(["stopping", "removed"]).toContain(removed.status)
    expect((await reaches("removed")).actions).toEqual([])
  })

  it("gets a signal by name, through its node", async () => {
    const { id, run } = await aRunningContainer()
    const answer = post(`/v1/containers/${id}/kill`, { signal: "SIGUSR1" })
    const command = await waitFor("the command", () => node.received.find((m) => m.type === "command" && m.run_id === run?.id))
    if (command.type !== "command") throw new Error("not a command")
    expect(command.command).toEqual({ kind: "signal", signal: "SIGUSR1" })
    node.send({ type: "command_result", id: command.id, error: null, data: {} })
    expect((await containerOf(await answer)).status).toBe("running")
  })
})

describe("lists", () => {
  it("go page by page and filter by label and status", async () => {
    const mine = await aTenant()
    for (let i = 0; i < 5; i++) await aCreatedContainer(mine.token, { name: `c-${i}`, labels: { app: "web", i: String(i) } })
    const names: unknown[] = []
    let path = "/v1/containers?limit=2&label=app=web"
    for (let pages = 0; path !== ""; pages++) {
      const { items, next_cursor } = await (
        await call("GET", path, { token: mine.token })
      ).json<{ items: Container[]; next_cursor: string | null }>()
      expect(items.length).toBeLessThanOrEqual(2)
      expect(pages).toBeLessThan(3)
      names.push(...items.map(({ name }) => name))
      path = next_cursor === null ? "" : `/v1/containers?limit=2&label=app=web&cursor=${encodeURIComponent(next_cursor)}`
    }
    expect(names.toSorted()).toEqual(["c-0", "c-1", "c-2", "c-3", "c-4"])
    const only = await (
      await call("GET", "/v1/containers?label=app&label=i=3&status=created", { token: mine.token })
    ).json<{ items: Container[] }>()
    expect(only.items.map(({ name }) => name)).toEqual(["c-3"])
  })
})

describe("wait", () => {
  it("answers 408 with the container as it is when the status is not reached", async () => {
    const { id } = await containerOf(
      await post("/v1/containers", { image: "a", placement: { labels: { disk: "none-such" } } }),
      201,
    )
    const response = await get(`/v1/containers/${id}/wait?status=running&timeout=0.05`)
    const { container } = await response.clone().json<{ container: unknown }>()
    expect(await problemOf(response)).toMatchObject({ status: 408, code: "wait_timeout", retryable: true })
    expect(response.headers.get("retry-after")).toBe("1")
    expect(Container.parse(container)).toMatchObject({ id, status: "scheduling" })
  })

  it("answers 409 at once when the status cannot be reached any more by itself", async () => {
    const { id } = await aCreatedContainer(tenant.token)
    const response = await get(`/v1/containers/${id}/wait?status=running&timeout=60`)
    const { container } = await response.clone().json<{ container: unknown }>()
    expect(await problemOf(response)).toMatchObject({ status: 409, code: "never_reached", retryable: false })
    expect(Container.parse(container)).toMatchObject({ id, status: "created" })
  })
})

const entry = (run_id: string, text: string, at: number, fields: Partial<LogEntry> = {}) =>
  `${JSON.stringify({ run_id, time: `2026-11-23T18:30:0${at}.000000000Z`, stream: "stdout", partial: false, text, cursor: `1:${at}`, ...fields })}\n`

/** The stream that the node is asked for next, for this run. */
async function opened(run: string | undefined, after = 0) {
  const message = await waitFor("a stream to be opened", () =>
    node.received.slice(after).find((m) => m.type === "stream_open" && m.run_ids.some((id) => id === run)),
  )
  if (message.type !== "stream_open") throw new Error("not a stream")
  return message
}
const send = (stream: number, text: string) => node.sendBytes(stream, new TextEncoder().encode(text))

describe("logs", () => {
  it("are plain text by default, with times when asked, and the query reaches the node", async () => {
    const { id, run } = await aRunningContainer()
    const runId = run?.id ?? ""
    const answer = get(`/v1/containers/${id}/logs?tail=10&stream=stdout&since=2026-11-23T18:00:00Z&timestamps`)
    const { stream, logs } = await opened(runId)
    expect(logs).toEqual({
      follow: false,
      since_ms: Date.parse("2026-11-23T18:00:00Z"),
      tail: 10,
      streams: ["stdout"],
      after: null,
    })
    send(stream, entry(runId, "one", 1) + entry(runId, "t", 2, { partial: true }) + entry(runId, "wo", 2))
    node.send({ type: "stream_end", stream, error: null })
    const response = await answer
    expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8")
    expect(await response.text()).toBe("2026-11-23T18:30:01.000000000Z one\n2026-11-23T18:30:02.000000000Z two\n")
  })

  it("are server-sent events when those are accepted, and go on after the last one that was seen", async () => {
    const { id, run } = await aRunningContainer()
    const runId = run?.id ?? ""
    const answer = get(`/v1/containers/${id}/logs?follow=1`, { accept: "text/event-stream", "last-event-id": "1:7" })
    const { stream, logs } = await opened(runId)
    expect(logs).toMatchObject({ follow: true, after: "1:7", tail: null, streams: ["stdout", "stderr"] })
    const response = await answer
    expect(response.headers.get("content-type")).toBe("text/event-stream")
    send(stream, entry(runId, "oh\nno", 8, { stream: "stderr" }))
    node.send({ type: "stream_end", stream, error: null })
    const data = { time: "2026-11-23T18:30:08.000000000Z", stream: "stderr", text: "oh\nno", partial: false, run_id: runId }
    expect(await response.text()).toBe(`retry: 1000\n\nid: 1:8\nevent: stderr\ndata: ${JSON.stringify(data)}\n\n`)
  })

  it("that nobody reads any more are closed at the node by its next lines", async () => {
    const { id, run } = await aRunningContainer()
    const response = await get(`/v1/containers/${id}/logs?follow=1`, { accept: "text/event-stream" })
    const { stream } = await opened(run?.id)
    await response.body?.cancel()
    // A platform stream tells its writer that the reader left only when it writes, and there are two on the way.
    await waitFor("the end of the stream", () => {
      send(stream, entry(run?.id ?? "", "still there?", 1))
      return node.received.some((m) => m.type === "stream_close" && m.stream === stream)
    })
  })

  it("take no more from the node than its credit while the client is slow", async () => {
    const { id, run } = await aRunningContainer()
    const runId = run?.id ?? ""
    const response = await get(`/v1/containers/${id}/logs?follow=1`)
    const { stream, credit_bytes } = await opened(runId)
    const line = entry(runId, "x".repeat(1000), 1)
    const lines = Math.floor(credit_bytes / line.length)
    for (let i = 0; i < lines; i++) send(stream, line)
    const credits = () => node.received.filter((m) => m.type === "stream_credit" && m.stream === stream)
    const reader = response.body?.getReader()
    let read = 0
    while (read < (lines - 1) * 1001) read += (await reader?.read())?.value?.byteLength ?? 0
    await waitFor("credit for what was read", () => credits().length > 0)
    await reader?.cancel()
  })
})

describe("isolation", () => {
  it("is what the node read of the live process", async () => {
    const { id, run } = await aRunningContainer()
    const answer = get(`/v1/containers/${id}/isolation`)
    const command = await waitFor("the command", () =>
      node.received.find((m) => m.type === "command" && m.run_id === run?.id && m.command.kind === "isolation"),
    )
    const read = { ...isolation, run_id: run?.id }
    if (command.type === "command") node.send({ type: "command_result", id: command.id, error: null, data: read })
    expect(Isolation.parse(await (await answer).json())).toEqual(read)
  })

  it("is refused while nothing runs", async () => {
    const { id } = await aCreatedContainer(tenant.token)
    expect((await problemOf(await get(`/v1/containers/${id}/isolation`))).code).toBe("action_not_allowed")
  })
})

describe("events", () => {
  it("come as pages with cursors, by type and by container", async () => {
    const { id } = await aRunningContainer({ name: "told" })
    const page = await (
      await get(`/v1/events?container=told&types=container.*&limit=2`)
    ).json<{ items: unknown[]; next_cursor: string }>()
    expect(page.items.map((item) => Event.parse(item).type)).toEqual(["container.created", "container.scheduling"])
    const rest = await (
      await get(`/v1/events?container=${id}&types=container.running&after=${page.next_cursor}`)
    ).json<{ items: unknown[] }>()
    expect(rest.items.map((item) => Event.parse(item).type)).toEqual(["container.running"])
  })

  it("come as CloudEvents when those are accepted, a page as a batch with a link to the next, and as a stream", async () => {
    const { id } = await aRunningContainer({ name: "clouded" })
    const accept = { accept: "application/cloudevents+json" }
    const response = await get("/v1/events?container=clouded&limit=1", accept)
    expect(response.headers.get("content-type")).toBe("application/cloudevents-batch+json")
    const [created] = await response.json<Record<string, unknown>[]>()
    expect(created).toMatchObject({
      specversion: "1.0",
      type: "container.created",
      subject: id,
      datacontenttype: "application/json",
    })
    expect(created?.id).toMatch(/^evt_/)
    expect(created?.source).toMatch(/\/tenants\/ten_/)
    // Attribute names are lower-case letters and digits (CloudEvents 1.0.2, "Naming conventions").
    expect(Object.keys(created ?? {}).filter((name) => !/^[a-z0-9]+$/.test(name))).toEqual([])
    const next = /^<(\/v1\/events\?[^>]+)>; rel="next"$/.exec(response.headers.get("link") ?? "")?.[1] ?? ""
    const [second] = await (await get(next, accept)).json<{ type: string }[]>()
    expect(second?.type).toBe("container.scheduling")
    const streamed = await readUntil(await get(`/v1/events?container=${id}&follow=true`, accept), "container.running")
    expect(JSON.parse(/^data: (.*)$/m.exec(streamed)?.[1] ?? "")).toEqual(created)
  })

  it("come as a stream, from the last one that was seen", async () => {
    const { id } = await aCreatedContainer(tenant.token, { name: "streamed" })
    const response = await get("/v1/events?container=streamed", { accept: "text/event-stream" })
    expect(response.headers.get("content-type")).toBe("text/event-stream")
    const first = await readUntil(response, "container.created")
    const cursor = /^id: (.*)$/m.exec(first)?.[1] ?? ""
    const resumed = await get(`/v1/events?container=${id}&follow=true`, { "last-event-id": cursor })
    await call("DELETE", `/v1/containers/${id}`, { token: tenant.token })
    const next = await readUntil(resumed, "container.removed")
    expect(next).not.toContain("container.created")
    expect(Event.parse(JSON.parse(/^data: (.*)$/m.exec(next)?.[1] ?? "")).container_id).toBe(id)
  })
})

/** Reads a stream that does not end until it has said this, then leaves. */
async function readUntil(response: Response, text: string): Promise<string> {
  const reader = response.body?.getReader()
  const decoder = new TextDecoder()
  let seen = ""
  while (!(seen.includes(text) && seen.endsWith("\n\n"))) {
    const next = await reader?.read()
    if (!next || next.done) throw new Error(`the stream ended at ${JSON.stringify(seen)}`)
    seen += decoder.decode(next.value, { stream: true })
  }
  await reader?.cancel()
  return seen
}
