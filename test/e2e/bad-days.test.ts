/** What a tenant reads when something is wrong: with the call, the token, the image, the registry, the program or the disk. */
import { execFileSync, spawnSync } from "node:child_process"
import { closeSync, mkdirSync, openSync, rmSync, statSync, writeSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { signingKeyIn } from "../../bin/keys.ts"
import { layoutOf } from "../../bin/platform.ts"
import { parseManifest } from "../../node-bridge/image/manifest.ts"
import { Container } from "../../schema/api.ts"
import { MIB } from "../../schema/container.ts"
import { busyboxLayer, makeImage, temporaryFolder } from "../support/images.ts"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { openPlatform, problemOf, tenantOf } from "../support/platform.ts"
import type { TestPlatform } from "../support/platform.ts"
import { freePort, startRegistry } from "../support/registry.ts"
import type { Registry } from "../support/registry.ts"
import { startStalledRegistry } from "../support/stalled-registry.ts"
import { tarArchive, tarEntry } from "../support/tar.ts"
import { aToken } from "../support/tokens.ts"

/** Enough for the small images of this file beside the 256 MiB that a node keeps free, and not for the large one. */
const STORE_BYTES = 320 * MIB
const LARGE_FILE_BYTES = 100 * MIB
const REGISTRY_TIMEOUT_SECONDS = 2

const state = temporaryFolder("bad-days")
const store = join(layoutOf(state).node, "image-store")
const layout = join(temporaryFolder("bad-images"), "layout")
let before: Snapshot
let registry: Registry
let berth: TestPlatform
let tenant: Awaited<ReturnType<TestPlatform["tenant"]>>

const image = (name: string) => `${registry.host}/${name}:1`

async function push(name: string, parts: Parameters<typeof makeImage>[2] = {}): Promise<string> {
  makeImage(layout, name, parts)
  await registry.push(layout, name, `${name}:1`)
  return image(name)
}

beforeAll(async () => {
  before = snapshot([state])
  mkdirSync(store, { recursive: true, mode: 0o700 })
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${STORE_BYTES}`, "tmpfs", store])
  registry = await startRegistry()
  await push("app")
  const deadline = String(REGISTRY_TIMEOUT_SECONDS)
  berth = await openPlatform({ state, bridgeArgs: ["--registry-timeout", deadline, "--pull-timeout", deadline] })
  tenant = await berth.tenant("unlucky")
})

afterAll(async () => {
  await registry.stop()
  spawnSync("umount", [store]) // already done, unless a hook or the last test failed
  for (const dir of [state, join(layout, "..")]) rmSync(dir, { recursive: true, force: true })
})

describe.concurrent("a call", () => {
  it("whose body is not JSON is refused with 400 and says where it breaks", async () => {
    const answer = await tenant.call("POST", "/v1/containers", { body: '{"image": ' })
    expect(answer.headers.get("content-type")).toBe("application/problem+json")
    expect(await problemOf(answer)).toMatchObject({ status: 400, code: "malformed_json", retryable: false })
  })

  it("with a field that nobody knows is refused by the field's name", async () => {
    const answer = await tenant.call("POST", "/v1/containers", { body: { image: image("app"), privileged: true } })
    const { status, code, errors } = await problemOf(answer)
    expect({ status, code }).toEqual({ status: 422, code: "invalid_field" })
    expect(errors.map(({ pointer }) => pointer)).toEqual(["/privileged"])
  })

  it("with values of the wrong type is told each of them", async () => {
    const body = { image: 7, resources: { cpus: "two" }, command: "sh -c true" }
    const { status, code, errors } = await problemOf(await tenant.call("POST", "/v1/containers", { body }))
    expect({ status, code }).toEqual({ status: 422, code: "invalid_field" })
    expect(errors.map(({ pointer }) => pointer).toSorted()).toEqual(["/command", "/image", "/resources/cpus"])
  })

  it("of two megabytes is refused with 413", async () => {
    const body = JSON.stringify({ image: image("app"), env: { BIG: "x".repeat(2 * MIB) } })
    expect(await problemOf(await tenant.call("POST", "/v1/containers", { body }))).toMatchObject({
      status: 413,
      code: "body_too_large",
    })
  })

  it("for a name that is taken is refused with 409, until its container is removed", async () => {
    const { id } = await tenant.create({ image: image("app"), name: "only-one", start: false })
    const body = { image: image("app"), name: "only-one" }
    const answer = await problemOf(await tenant.call("POST", "/v1/containers", { body }))
    expect(answer).toMatchObject({ status: 409, code: "name_taken" })
    expect(answer.detail).toContain("only-one")
    await tenant.remove(id)
    expect((await tenant.create({ ...body, start: false })).name).toBe("only-one")
  })

  it("to stop a container that is stopped is refused with 409 and says what may be done", async () => {
    const { id } = await tenant.create({ image: image("app"), command: ["sleep", "1000"], stop: { timeout_seconds: 1 } })
    await tenant.reaches(id, "running")
    await tenant.act(id, "stop")
    await tenant.reaches(id, "exited")
    const { detail, ...problem } = await problemOf(await tenant.call("POST", `/v1/containers/${id}/stop`))
    expect(problem).toMatchObject({ status: 409, code: "action_not_allowed" })
    expect(detail).toContain("exited")
    expect(detail).toContain("start")
  })
})

const list = async (token: string) => problemOf(await tenantOf(berth.platform.url, token).call("GET", "/v1/containers"))
const signed = async (more: Parameters<typeof aToken>[0]) => {
  const { kid = "", x = "", d = "" } = await signingKeyIn(layoutOf(state).signingKey)
  const { url } = berth.platform
  return aToken({ key: { kty: "OKP", crv: "Ed25519", x, d }, kid, issuer: url, audience: url, ...more })
}

describe.concurrent("a token", () => {
  it("that is missing, no token, or signed by a stranger is refused with 401", async () => {
    const stranger = await aToken({ issuer: berth.platform.url, audience: berth.platform.url })
    const forged = `${berth.platform.token.slice(0, -8)}AAAAAAAA`
    for (const token of ["", "nonsense", stranger, forged]) {
      expect(await list(token)).toMatchObject({ status: 401, code: "unauthenticated" })
    }
  })

  it("that has expired is refused with 401 and says so", async () => {
    expect((await tenantOf(berth.platform.url, await signed({ tenant: tenant.id })).call("GET", "/v1/containers")).status).toBe(
      200,
    )
    expect(await list(await signed({ tenant: tenant.id, expiresIn: -60 }))).toMatchObject({ status: 401, code: "token_expired" })
  })

  it("shows nothing of another tenant's container, whatever is asked of it", async () => {
    const { id } = await tenant.create({ image: image("app"), start: false })
    const stranger = await berth.tenant("stranger")
    const calls = [
      ["GET", ""], ["DELETE", ""], ["DELETE", "?force=true"], ["GET", "/wait?timeout=0"], ["GET", "/logs"], ["GET", "/isolation"],
      ["POST", "/start"], ["POST", "/stop"], ["POST", "/restart"], ["POST", "/kill"], ["POST", "/pause"], ["POST", "/unpause"],
    ] as const // prettier-ignore
    for (const [method, rest] of calls) {
      const answer = await stranger.call(method, `/v1/containers/${id}${rest}`)
      expect(await problemOf(answer), `${method} ${rest}`).toMatchObject({ status: 404, code: "not_found" })
    }
    expect(await (await tenant.call("GET", `/v1/containers/${id}`)).json()).toMatchObject({ status: "created" })
  })
})

const ask = (key: string, body: object) => tenant.call("POST", "/v1/containers", { body, headers: { "idempotency-key": key } })

describe.concurrent("an Idempotency-Key", () => {
  it("makes two identical creates one container, at the same time and later", async () => {
    const body = { image: image("app"), labels: { once: "yes" }, start: false }
    const answers = [...(await Promise.all([ask("key-1", body), ask("key-1", body)])), await ask("key-1", body)]
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201])
    expect(answers.filter(({ headers }) => headers.get("idempotency-replayed") === "true")).toHaveLength(2)
    const ids = await Promise.all(answers.map(async (answer) => Container.parse(await answer.json()).id))
    expect(new Set(ids).size).toBe(1)
    const found = (await (await tenant.call("GET", "/v1/containers?label=once=yes")).json()) as { items: unknown[] }
    expect(found.items).toHaveLength(1)
  })

  it("that comes with another request is refused with 422", async () => {
    expect((await ask("key-2", { image: image("app"), start: false })).status).toBe(201)
    const answer = await problemOf(await ask("key-2", { image: image("app"), start: false, labels: { other: "yes" } }))
    expect(answer).toMatchObject({ status: 422, code: "idempotency_mismatch" })
  })
})

/** A run that never came as far as a process: no exit, and a reason that a tenant understands. */
async function rejected(reference: string): Promise<Container> {
  const container = await tenant.through({ image: reference })
  expect(container.run).toMatchObject({ state: "rejected", exit: null, started_at: null })
  expect(container.actions).toContain("start")
  return container
}

describe.concurrent("an image", () => {
  it("that does not exist ends the run with that reason, and the events tell it too", async () => {
    const { id, reason } = await rejected(`${registry.host}/nobody/knows:1`)
    expect(reason).toEqual({ code: "image_not_found", message: "The registry has no such image." })
    const [exited] = await tenant.events(`container=${id}&types=container.exited`)
    expect(exited?.data.reason).toEqual(reason)
  })

  it("whose tag does not exist ends the run with that reason", async () => {
    expect((await rejected(`${registry.host}/app:2`)).reason?.code).toBe("image_not_found")
  })

  it("with a damaged layer is refused and not kept", async () => {
    const own = tarArchive(tarEntry({ path: "own", data: "x".repeat(100_000) }))
    await push("damaged", { layers: [busyboxLayer(), own] })
    await damageTopLayer("damaged")
    expect((await rejected(image("damaged"))).reason).toEqual({
      code: "image_corrupt",
      message: "The image's data is damaged: it is not what its digest says.",
    })
  })

  it("for another architecture is refused, naming both", async () => {
    const { reason } = await rejected(await push("foreign", { architecture: "s390x" }))
    expect(reason?.code).toBe("image_wrong_architecture")
    expect(reason?.message).toContain("linux/s390x")
    expect(reason?.message).toContain(`linux/${process.arch === "arm64" ? "arm64" : "amd64"}`)
  })

  it("that would fill the node's disk is refused, nothing of it stays, and others still run", async () => {
    const zeros = tarArchive(tarEntry({ path: "zeros", data: Buffer.alloc(LARGE_FILE_BYTES) }))
    const { reason } = await rejected(await push("large", { layers: [busyboxLayer(), zeros] }))
    expect(reason).toEqual({ code: "disk_full", message: "The node has no disk space left for the image." })
    const used = Number(execFileSync("du", ["-s", "--block-size=1M", store], { encoding: "utf8" }).split("\t")[0])
    expect(used).toBeLessThan(LARGE_FILE_BYTES / MIB)
    expect((await tenant.through({ image: image("app"), command: ["true"] })).run?.exit?.code).toBe(0)
  })
})

describe.concurrent("a registry", () => {
  it("that is down is told as unreachable", async () => {
    expect((await rejected(`127.0.0.1:${await freePort()}/app:1`)).reason).toEqual({
      code: "registry_unreachable",
      message: "The registry cannot be reached, or failed to answer properly.",
    })
  })

  it("that never answers is given up at its deadline, once", async () => {
    const silent = await startStalledRegistry()
    const began = performance.now()
    const { reason } = await rejected(`${silent.host}/app:1`)
    expect(performance.now() - began).toBeLessThan(REGISTRY_TIMEOUT_SECONDS * 2 * 1000)
    expect(reason).toEqual({ code: "registry_timeout", message: "The registry did not answer in time." })
    await silent.stop()
  })

  it("that stalls in the middle of an image is given up at the pull's deadline", async () => {
    const stalled = await startStalledRegistry(registry)
    await push("slow", { layers: [busyboxLayer(), tarArchive(tarEntry({ path: "slow", data: "never comes" }))] })
    expect((await rejected(`${stalled.host}/slow:1`)).reason?.code).toBe("registry_timeout")
    await stalled.stop()
  })
})

describe.concurrent("a program", () => {
  it("that the image does not have ends the run with 127 and its name", async () => {
    const { reason, run } = await tenant.through({ image: image("app"), command: ["no-such-program", "--now"] })
    expect(reason?.code).toBe("command_not_found")
    expect(reason?.message).toContain("no-such-program")
    expect(run).toMatchObject({ state: "failed", exit: { code: 127, by: "process" } })
  })

  it("whose path the image does not have ends the run with 127 and the path", async () => {
    const { reason, run } = await tenant.through({ image: image("app"), command: ["/opt/no/such"] })
    expect(reason).toEqual({ code: "command_not_found", message: "“/opt/no/such” was not found in the image." })
    expect(run?.exit?.code).toBe(127)
  })

  it("whose file may not be executed ends the run with 126", async () => {
    const { reason, run } = await tenant.through({ image: image("app"), command: ["/etc/passwd"] })
    expect(reason).toEqual({ code: "command_not_executable", message: "“/etc/passwd” cannot be executed." })
    expect(run?.exit?.code).toBe(126)
  })

  it.each([false, true])(
    "whose working directory is missing finds it made, as with other engines (read_only: %s)",
    async (read_only) => {
      const command = ["sh", "-c", "pwd; stat -c %u:%a ."]
      const { id, run } = await tenant.through({ image: image("app"), command, workdir: "/no/such/folder", read_only })
      expect(run?.exit?.code).toBe(0)
      expect(await tenant.log(id)).toBe("/no/such/folder\n0:755\n")
    },
  )

  it("whose working directory is a file ends the run with that reason", async () => {
    const { reason, run } = await tenant.through({ image: image("app"), command: ["pwd"], workdir: "/etc/passwd" })
    expect(reason).toEqual({
      code: "workdir_invalid",
      message: "The working directory “/etc/passwd” is not a directory that the container may use.",
    })
    expect(run).toMatchObject({ state: "failed", exit: { code: 126 } })
  })

  it("that takes more memory than it has is killed, and its exit says so", async () => {
    const { reason, run } = await tenant.through({
      image: image("app"),
      command: ["sh", "-c", "echo filling; exec dd if=/dev/zero of=/dev/null bs=200M count=1"],
      resources: { cpus: 0.25, memory_bytes: 16 * MIB, pids: 16 },
    })
    expect(run?.exit).toMatchObject({ code: 137, signal: "SIGKILL", oom_killed: true, by: "process", log_tail: ["filling"] })
    expect(reason).toEqual({
      code: "oom_killed",
      message: "The process was killed because it used more than its 16 MiB of memory.",
    })
  })
})

describe("all of it together", () => {
  it("leaves nothing behind", async () => {
    await berth.stop()
    execFileSync("umount", [store])
    await expectNothingLeft(state, before)
  })
})

/** Changes one byte of an image's top layer where the registry keeps it. */
async function damageTopLayer(name: string): Promise<void> {
  const headers = { accept: "application/vnd.oci.image.manifest.v1+json" }
  const answer = await fetch(`http://${registry.host}/v2/${name}/manifests/1`, { headers })
  const [, hex = ""] =
    parseManifest(await answer.text())
      .layers.at(-1)
      ?.digest.split(":") ?? []
  const file = join(registry.storage, "docker/registry/v2/blobs/sha256", hex.slice(0, 2), hex, "data")
  const descriptor = openSync(file, "r+")
  writeSync(descriptor, Buffer.from([0xff]), 0, 1, statSync(file).size - 20)
  closeSync(descriptor)
}
