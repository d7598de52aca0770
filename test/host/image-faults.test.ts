import { execFileSync } from "node:child_process"
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs"
import { createServer } from "node:net"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { DirectoryImageStore } from "../../node-bridge/image/store.ts"
import type { ImageStoreOptions } from "../../node-bridge/image/store.ts"
import { makeImage, temporaryFolder, wanted } from "../support/images.ts"
import { startRegistry } from "../support/registry.ts"
import type { Registry } from "../support/registry.ts"
import { tarArchive, tarEntry } from "../support/tar.ts"
import { waitFor } from "../support/wait-for.ts"

const never = new AbortController().signal

let registry: Registry
let layout = ""
let dir = ""

beforeAll(async () => {
  layout = join(temporaryFolder("faults"), "layout")
  makeImage(layout, "1")
  registry = await startRegistry()
  await registry.push(layout, "1", "app:1")
})
afterAll(async () => {
  await registry.stop()
  rmSync(join(layout, ".."), { recursive: true })
})
beforeEach(() => {
  dir = temporaryFolder("store")
})
afterEach(() => rmSync(dir, { recursive: true }))

const openStore = (more: Partial<ImageStoreOptions> = {}) =>
  DirectoryImageStore.open({ dir: join(dir, "images"), loopbackRegistries: true, ...more })
const contents = () => readdirSync(join(dir, "images"))

/** What `ensure` says no with. */
async function fault(store: DirectoryImageStore, reference: string, pinned: string | null = null) {
  const said: unknown = await store.ensure(wanted(reference, pinned), never).then(
    () => "no fault",
    (error: unknown) => error,
  )
  return said
}

/** The file of the one layer of an image in the registry. */
function layerFile(of: Registry): string {
  const blobs = join(of.storage, "docker/registry/v2/blobs/sha256")
  const files = readdirSync(blobs, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("/data"))
  const [largest = ""] = files.map((name) => join(blobs, name)).toSorted((a, b) => statSync(b).size - statSync(a).size)
  return largest
}

describe("a registry", () => {
  it("on the node itself is not even spoken to, unless the operator runs one there", async () => {
    let calls = 0
    const server = createServer(() => calls++)
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const address = server.address()
    const port = typeof address === "object" && address ? address.port : 0
    const store = await openStore({ loopbackRegistries: false })
    for (const host of ["127.0.0.1", "127.0.0.2", "localhost", "[::1]"]) {
      expect(await fault(store, `${host}:${port}/app:1`)).toMatchObject({ reason: { code: "image_refused" }, retryable: false })
    }
    server.close()
    expect(calls).toBe(0)
  })

  it("that is not there is told as unreachable, and may be tried again", async () => {
    expect(await fault(await openStore(), "127.0.0.1:9/app:1")).toMatchObject({
      reason: { code: "registry_unreachable" },
      retryable: true,
    })
  })

  it("that never answers is given up at the deadline", async () => {
    const server = createServer(() => {})
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as AddressInfo
    const store = await openStore({ resolveTimeoutMs: 1_000 })
    const began = performance.now()
    expect(await fault(store, `127.0.0.1:${port}/app:1`)).toMatchObject({
      reason: { code: "registry_timeout" },
      retryable: false,
    })
    expect(performance.now() - began).toBeLessThan(3_000)
    server.close()
  })

  it.each(["app:2", "nobody/app:1"])("that has no %s says so", async (name) => {
    const said = await fault(await openStore(), `${registry.host}/${name}`)
    expect(said).toMatchObject({ reason: { code: "image_not_found" }, retryable: false })
  })

  it("that has no image of the pinned digest says so", async () => {
    const said = await fault(await openStore(), `${registry.host}/app:1`, `sha256:${"0".repeat(64)}`)
    expect(said).toMatchObject({ reason: { code: "image_not_found" } })
  })

  it("that asks for credentials gets those of the operator's file, and none of root's", async () => {
    const closed = await startRegistry({ login: { name: "anna", password: "secret" } })
    try {
      await closed.push(layout, "1", "app:1")
      const reference = `${closed.host}/app:1`
      expect(await fault(await openStore(), reference)).toMatchObject({
        reason: { code: "image_unauthorized" },
        retryable: false,
      })
      const authFile = join(dir, "auth.json")
      const auths = (password: string) =>
        writeFileSync(
          authFile,
          JSON.stringify({ auths: { [closed.host]: { auth: Buffer.from(`anna:${password}`).toString("base64") } } }),
        )
      auths("wrong")
      expect(await fault(await openStore({ authFile }), reference)).toMatchObject({ reason: { code: "image_unauthorized" } })
      auths("secret")
      expect(await fault(await openStore({ authFile }), reference)).toBe("no fault")
    } finally {
      await closed.stop()
    }
  })
})

describe("an image's data", () => {
  it.each([
    [
      "has one byte changed",
      (file: string) => {
        const fd = openSync(file, "r+")
        writeSync(fd, Buffer.from([0xff]), 0, 1, statSync(file).size - 20)
        closeSync(fd)
      },
    ],
    ["is cut short", (file: string) => truncateSync(file, statSync(file).size - 1_000)],
  ] as const)("that %s is refused, and nothing of it stays", async (_what, damage) => {
    const damaged = await startRegistry()
    try {
      await damaged.push(layout, "1", "app:1")
      damage(layerFile(damaged))
      const store = await openStore()
      expect(await fault(store, `${damaged.host}/app:1`)).toMatchObject({ reason: { code: "image_corrupt" } })
      expect(contents()).toEqual([])
    } finally {
      await damaged.stop()
    }
  })

  it("that is no archive is refused", async () => {
    makeImage(layout, "rubbish", { layers: [tarArchive(tarEntry({ path: "x", type: "V" }))] })
    await registry.push(layout, "rubbish", "rubbish:1")
    expect(await fault(await openStore(), `${registry.host}/rubbish:1`)).toMatchObject({ reason: { code: "image_corrupt" } })
    expect(contents()).toEqual([])
  })
})

describe("a disk", () => {
  const mounts: string[] = []
  afterEach(() => {
    for (const path of mounts.splice(0)) execFileSync("umount", [path])
  })

  it.each([
    ["that cannot even hold the layers", "512k"],
    ["that would be full once the image is unpacked", "64m"],
  ])("%s is told as full, and nothing stays", async (_what, size) => {
    mkdirSync(join(dir, "images"))
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", join(dir, "images")])
    mounts.push(join(dir, "images"))
    expect(await fault(await openStore(), `${registry.host}/app:1`)).toMatchObject({
      reason: { code: "disk_full" },
      retryable: true,
    })
    expect(contents()).toEqual([])
  })
})

describe("whoever asked for an image", () => {
  it("may leave in the middle, and then the pull is given up and nothing stays", async () => {
    const sockets: { destroy(): void }[] = []
    const server = createServer((socket) => void sockets.push(socket))
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as AddressInfo
    const store = await openStore()
    const leaver = new AbortController()
    const asked = store.ensure(wanted(`127.0.0.1:${port}/app@sha256:${"1".repeat(64)}`), leaver.signal)
    const outcome = expect(asked).rejects.toThrow("changed my mind")
    await waitFor("skopeo to call", () => sockets.length > 0)
    expect(contents()).toHaveLength(1)
    leaver.abort(new Error("changed my mind"))
    await outcome
    await waitFor("the store to be empty", () => contents().length === 0)
    for (const socket of sockets) socket.destroy()
    server.close()
  })

  it("may leave while another still waits, who then gets it", async () => {
    const store = await openStore()
    const leaver = new AbortController()
    const left = expect(store.ensure(wanted(`${registry.host}/app:1`), leaver.signal)).rejects.toThrow("gone")
    const stays = store.ensure(wanted(`${registry.host}/app:1`), never)
    leaver.abort(new Error("gone"))
    await left
    expect((await stays).config.cmd).toEqual(["sh"])
  })
})
