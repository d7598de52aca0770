/** Faults that no operation has to know of: they are answered the same everywhere. */
import { beforeAll, describe, expect, it } from "vitest"
import { MAX_BODY_BYTES } from "../../schema/api.ts"
import type { TestTenant } from "../support/api.ts"
import { aTenant, call, problemOf } from "../support/api.ts"

let tenant: TestTenant
beforeAll(async () => {
  tenant = await aTenant()
})
const create = (body: unknown, headers: Record<string, string> = {}) =>
  call("POST", "/v1/containers", { token: tenant.token, body, headers })
const failure = async (response: Response) => {
  const problem = await problemOf(response)
  return { ...problem, pointers: problem.errors.map(({ pointer }) => pointer) }
}

describe("a body", () => {
  it("that is not JSON is refused, saying where it breaks", async () => {
    const { code, detail } = await failure(await create('{"image": "a",, }'))
    expect(code).toBe("malformed_json")
    expect(detail).toMatch(/position 14/)
  })
  it("that is empty is refused where one is needed", async () => {
    expect((await failure(await create(""))).code).toMatch(/malformed_json|unsupported_media_type/)
  })
  it("that is not UTF-8 is refused", async () => {
    const stream = new Response(new Uint8Array([0x22, 0xff, 0x22])).body ?? undefined
    const headers = { "content-type": "application/json" }
    const response = await call("POST", "/v1/containers", { token: tenant.token, headers, stream })
    const { code, detail } = await failure(response)
    expect([code, detail]).toEqual(["malformed_json", "The body is not valid UTF-8."])
  })
  it.each(["text/plain", "application/x-www-form-urlencoded", "application/problem+json", ""])(
    "of type %j is refused",
    async (type) => {
      expect((await failure(await create('{"image":"a"}', { "content-type": type }))).code).toBe("unsupported_media_type")
    },
  )
  it("may name its character set", async () => {
    const response = await create({ image: "a", start: false }, { "content-type": "Application/JSON; charset=utf-8" })
    expect(response.status).toBe(201)
  })
  it("of 2 MB is refused by its length", async () => {
    const { code, detail } = await failure(await create(JSON.stringify({ image: "a".repeat(2_000_000) })))
    expect(code).toBe("body_too_large")
    expect(detail).toContain(String(MAX_BODY_BYTES))
  })
  it("that is not the size it claims is counted while it is read", async () => {
    let sent = 0
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 65_536
        controller.enqueue(new Uint8Array(65_536).fill(32))
      },
    })
    const response = await call("POST", "/v1/containers", {
      token: tenant.token,
      headers: { "content-type": "application/json" },
      stream: endless,
    })
    expect((await failure(response)).code).toBe("body_too_large")
    expect(sent).toBeLessThan(4 * MAX_BODY_BYTES)
  })
  it("has its unknown fields named, at any depth", async () => {
    const { code, pointers } = await failure(await create({ image: "a", ports: [80], resources: { gpus: 1 } }))
    expect(code).toBe("invalid_field")
    expect(pointers.toSorted()).toEqual(["/ports", "/resources/gpus"])
  })
  it("has every wrong type named", async () => {
    const { status, pointers } = await failure(await create({ image: 1, args: "ls", restart: { policy: "sometimes" } }))
    expect(status).toBe(422)
    expect(pointers).toEqual(["/image", "/args", "/restart/policy"])
  })
  it("is refused where an operation takes none", async () => {
    const { code } = await failure(await call("DELETE", "/v1/containers/x", { token: tenant.token, body: { force: true } }))
    expect(code).toBe("bad_request")
  })
})

describe("an address", () => {
  it("that does not exist is a problem like any other, and hides nothing", async () => {
    const response = await call("GET", "/v1/nothing", { token: tenant.token })
    expect((await failure(response)).code).toBe("not_found")
    expect(response.headers.get("x-request-id")).toMatch(/^req_/)
  })
  it.each([
    ["PUT", "/v1/containers", "POST, GET, HEAD"],
    ["PUT", "/v1/containers/x", "GET, HEAD, PATCH, DELETE"],
    ["GET", "/v1/containers/x/start", "POST"],
    ["POST", "/healthz", "GET, HEAD"],
  ])("%s %s says what it takes instead", async (method, path, allowed) => {
    const response = await call(method, path, { token: tenant.token })
    expect((await failure(response)).code).toBe("method_not_allowed")
    expect(response.headers.get("allow")?.split(", ").toSorted()).toEqual(allowed.split(", ").toSorted())
  })
  it("that names no possible container is not found, and asks no object", async () => {
    for (const id of ["UPPER", "a_b", "x".repeat(64), "%2e%2e"])
      expect((await failure(await call("GET", `/v1/containers/${id}`, { token: tenant.token }))).code, id).toBe("not_found")
  })
})

describe("a query", () => {
  it.each([
    ["/v1/containers?limit=0", "?limit"],
    ["/v1/containers?limit=many", "?limit"],
    ["/v1/containers?limit=1001", "?limit"],
    ["/v1/containers?limit=", "?limit"],
    ["/v1/containers?limit=0x10", "?limit"],
    ["/v1/containers?limit=%2010", "?limit"],
    ["/v1/containers?limit=1e2", "?limit"],
    ["/v1/containers?limit=1.5", "?limit"],
    ["/v1/containers?limit=5&limit=6", "?limit"],
    ["/v1/events?limit=0x10", "?limit"],
    [`/v1/containers?${Array.from({ length: 60 }, (_, i) => `label=a=${i}`).join("&")}`, "?label"],
    ["/v1/containers?status=happy", "?status"],
    ["/v1/containers?status=running&status=exited", "?status"],
    ["/v1/containers/x/wait?timeout=301", "?timeout"],
    ["/v1/containers/x/wait?timeout=", "?timeout"],
    ["/v1/containers/x/wait?timeout=Infinity", "?timeout"],
    ["/v1/containers/x/logs?tail=-1", "?tail"],
    ["/v1/containers/x/logs?tail=", "?tail"],
    ["/v1/containers/x/logs?since=yesterday", "?since"],
    ["/v1/containers/x/logs?stream=both", "?stream"],
    ["/v1/events?types=container.danced", "?types"],
    ["/v1/containers/x?verbose=1", "?verbose"],
  ])("%s names what is wrong", async (path, pointer) => {
    const { status, pointers } = await failure(await call("GET", path, { token: tenant.token }))
    expect(status).toBe(422)
    expect(pointers).toEqual([pointer])
  })

  it("may say the same thing many times over", async () => {
    const types = Array.from({ length: 80 }, () => "container.*").join(",")
    expect((await call("GET", `/v1/events?types=${types}`, { token: tenant.token })).status).toBe(200)
    const labels = Array.from({ length: 16 }, (_, i) => `label=a=${i}`).join("&")
    expect((await call("GET", `/v1/containers?${labels}&limit=7`, { token: tenant.token })).status).toBe(200)
  })
})

describe("an answer", () => {
  it("has an id of ours, also when the client sends one, and is never stored by a cache", async () => {
    const response = await call("GET", "/v1/containers", { token: tenant.token, headers: { "x-request-id": "mine" } })
    expect(response.headers.get("x-request-id")).toMatch(/^req_[0-9a-z]{26}$/)
    expect(response.headers.get("cache-control")).toBe("no-store")
    expect(response.headers.get("access-control-allow-origin")).toBeNull()
  })
  it("to HEAD has the headers of GET and no body", async () => {
    const response = await call("HEAD", "/v1/containers", { token: tenant.token })
    expect(response.status).toBe(200)
    expect(response.headers.get("content-type")).toBe("application/json")
    expect(await response.text()).toBe("")
    const stream = await call("HEAD", "/v1/events?follow=true", { token: tenant.token })
    expect([stream.status, stream.headers.get("content-type"), await stream.text()]).toEqual([200, "text/event-stream", ""])
  })
})
