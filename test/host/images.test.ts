import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { SCAN_LIMITS } from "../../node-bridge/image/prescan.ts"
import { DirectoryImageStore } from "../../node-bridge/image/store.ts"
import type { ImageStoreOptions } from "../../node-bridge/image/store.ts"
import { formatId } from "../../schema/ids.ts"
import { busyboxLayer, debianRoot, makeImage, makeIndex, temporaryFolder, wanted, withZstdLayers } from "../support/images.ts"
import { startRegistry } from "../support/registry.ts"
import type { Registry } from "../support/registry.ts"
import { tarArchive, tarEntry } from "../support/tar.ts"

const never = new AbortController().signal
const RUN = formatId("run", 1, new Uint8Array(10))

let registry: Registry
let shared = ""
let dir = ""

beforeAll(async () => {
  shared = temporaryFolder("images")
  registry = await startRegistry()
})
afterAll(async () => {
  await registry.stop()
  rmSync(shared, { recursive: true })
})
beforeEach(() => {
  dir = temporaryFolder("store")
})
afterEach(() => rmSync(dir, { recursive: true }))

const openStore = (more: Partial<ImageStoreOptions> = {}) =>
  DirectoryImageStore.open({ dir: join(dir, "images"), imagesDir: shared, loopbackRegistries: true, ...more })

let number = 0
/** Makes an image and pushes it under a name of its own. */
async function pushed(parts: Parameters<typeof makeImage>[2] = {}): Promise<{ reference: string; digest: string; name: string }> {
  const name = `image-${++number}`
  const digest = makeImage(join(shared, name), "1", parts)
  await registry.push(join(shared, name), "1", `${name}:1`)
  return { reference: `${registry.host}/${name}:1`, digest, name }
}

/** What is in the store, temporaries and all. */
const contents = () => readdirSync(join(dir, "images"))

describe("an image from a registry", () => {
  it("is pulled by tag, run by digest, and told with its config", async () => {
    const { reference, digest } = await pushed({ cmd: ["echo", "hi"], env: ["A=b"], workdir: "/tmp", user: "65534" })
    const store = await openStore()
    const image = await store.ensure(wanted(reference), never)
    expect(image.digest).toBe(digest)
    expect(image.config).toEqual({
      entrypoint: [],
      cmd: ["echo", "hi"],
      env: ["A=b"],
      workdir: "/tmp",
      user: "65534",
      stopSignal: "",
    })
    expect(lstatSync(join(image.rootDir, "bin/sh")).isSymbolicLink()).toBe(true)
    expect(statSync(join(dir, "images")).mode & 0o777).toBe(0o700)
    expect(contents()).toEqual([digest.replace(":", "-")])
    expect(readdirSync(join(image.rootDir, "..")).toSorted()).toEqual(["access", "image.json", "rootfs"])
  })

  it("is asked for once, however many want it, and not again while its tag is remembered", async () => {
    const { reference, name } = await pushed()
    const store = await openStore()
    const all = await Promise.all(Array.from({ length: 10 }, () => store.ensure(wanted(reference), never)))
    expect(new Set(all.map((image) => image.rootDir)).size).toBe(1)
    rmSync(join(registry.storage, "docker/registry/v2/repositories", name), { recursive: true })
    expect(await store.ensure(wanted(reference), never)).toEqual(all[0])
  })

  it("needs no registry when its digest is known and it is in the store, after a restart too", async () => {
    const { reference, digest, name } = await pushed()
    await (await openStore()).ensure(wanted(reference), never)
    rmSync(join(registry.storage, "docker/registry/v2/repositories", name), { recursive: true })
    const store = await openStore()
    expect((await store.ensure(wanted(reference, digest), never)).digest).toBe(digest)
    await expect(store.ensure(wanted(reference), never)).rejects.toMatchObject({ reason: { code: "image_not_found" } })
  })

  it("follows a moved tag when the memory of it has passed, while the pinned digest stays", async () => {
    const { reference, digest, name } = await pushed()
    const store = await openStore({ tagMemoMs: 0 })
    await store.ensure(wanted(reference), never)
    const second = makeImage(join(shared, name), "2", { cmd: ["other"] })
    await registry.push(join(shared, name), "2", `${name}:1`)
    expect((await store.ensure(wanted(reference), never)).digest).toBe(second)
    expect((await store.ensure(wanted(reference, digest), never)).digest).toBe(digest)
  })

  it("may have layers of zstd, and its digest is still the registry's", async () => {
    const { name } = await pushed()
    withZstdLayers(join(shared, name), "1")
    await registry.push(join(shared, name), "1", `${name}:zstd`)
    const reference = `${registry.host}/${name}:zstd`
    const raw = execFileSync("skopeo", ["inspect", "--raw", "--tls-verify=false", `docker://${reference}`])
    expect(raw.toString()).toContain("zstd")
    const image = await (await openStore()).ensure(wanted(reference), never)
    expect(image.digest).toBe(`sha256:${createHash("sha256").update(raw).digest("hex")}`)
    expect(existsSync(join(image.rootDir, "bin/busybox"))).toBe(true)
  })

  it("may be in Docker's format", async () => {
    const { name } = await pushed()
    await registry.push(join(shared, name), "1", `${name}:docker`, "--format", "v2s2")
    const image = await (await openStore()).ensure(wanted(`${registry.host}/${name}:docker`), never)
    expect(image.config.cmd).toEqual(["sh"])
    const record: unknown = JSON.parse(readFileSync(join(image.rootDir, "../image.json"), "utf8"))
    expect(record).toMatchObject({ digest: image.digest, layout_digest: expect.not.stringMatching(image.digest) })
  })

  it("is chosen from an index by the node's architecture, and named by the index's digest", async () => {
    const name = `image-${++number}`
    makeImage(join(shared, name), "native", { cmd: ["native"] })
    makeImage(join(shared, name), "foreign", { architecture: "s390x", cmd: ["foreign"] })
    const digest = makeIndex(join(shared, name), "both", ["foreign", "native"])
    await registry.push(join(shared, name), "both", `${name}:both`, "--all")
    const image = await (await openStore()).ensure(wanted(`${registry.host}/${name}:both`), never)
    expect(image).toMatchObject({ digest, config: { cmd: ["native"] } })
  })

  it("can be a real Debian 12", async () => {
    const { reference } = await pushed({ layers: [readFileSync(debianRoot())] })
    const image = await (await openStore()).ensure(wanted(reference), never)
    expect(readFileSync(join(image.rootDir, "etc/debian_version"), "utf8")).toMatch(/^12\./)
    const devices = execFileSync("find", [image.rootDir, "-type", "c", "-o", "-type", "b"], { encoding: "utf8" })
    expect(devices).toBe("")
  })
})

describe("an image that the operator put on the node", () => {
  it("is named localhost, without a port, and never asked of a network", async () => {
    const digest = makeImage(join(shared, "tools/hello"), "latest")
    const image = await (await openStore()).ensure(wanted("localhost/tools/hello"), never)
    expect(image.digest).toBe(digest)
  })

  it("is found again by digest when the tag has moved on", async () => {
    const digest = makeImage(join(shared, "moved"), "latest")
    const copy = makeImage(join(shared, "moved"), "other", { cmd: ["x"] })
    const image = await (await openStore()).ensure(wanted("localhost/moved", copy), never)
    expect(image.digest).toBe(copy)
    expect(image.digest).not.toBe(digest)
  })

  it.each(["localhost/absent", "localhost/tools", "localhost/tools/hello:9"])("is not there: %s", async (reference) => {
    await expect((await openStore()).ensure(wanted(reference), never)).rejects.toMatchObject({
      reason: { code: "image_not_found" },
    })
  })
})

describe("what an image brings along", () => {
  it("loses its device nodes", async () => {
    const device = tarArchive(
      tarEntry({ path: "dev/", type: "5" }),
      tarEntry({ path: "dev/disk", type: "4", device: [254, 0], mode: 0o666 }),
    )
    const { reference } = await pushed({ layers: [busyboxLayer(), device] })
    const image = await (await openStore()).ensure(wanted(reference), never)
    expect(existsSync(join(image.rootDir, "dev/disk"))).toBe(false)
  })

  it.each([
    ["a path that climbs", tarArchive(tarEntry({ path: "../../evil", data: "x" }))],
    ["a hard link out", tarArchive(tarEntry({ path: "evil", type: "1", target: "../../etc/passwd" }))],
    ["/dev as a link", tarArchive(tarEntry({ path: "dev", type: "2", target: "/etc" }))],
    [
      "/proc as a link by way of a link to the root",
      tarArchive(tarEntry({ path: "a", type: "2", target: "/" }), tarEntry({ path: "a/proc", type: "2", target: "etc" })),
    ],
    ["a whiteout of the parent", tarArchive(tarEntry({ path: ".wh..." }))],
    ["an owner beyond the tenant's ids", tarArchive(tarEntry({ path: "x", uid: 65_536 }))],
  ])("is refused with %s, and nothing of it stays", async (_what, layer) => {
    const { reference } = await pushed({ layers: [layer] })
    await expect((await openStore()).ensure(wanted(reference), never)).rejects.toMatchObject({
      reason: { code: "image_refused" },
    })
    expect(contents()).toEqual([])
  })

  it("is refused when it is too large, before it is unpacked", async () => {
    const { reference } = await pushed({ layers: [tarArchive(tarEntry({ path: "zeros", data: Buffer.alloc(4_000_000) }))] })
    const store = await openStore({ limits: { ...SCAN_LIMITS, maxBytes: 3_000_000 } })
    await expect(store.ensure(wanted(reference), never)).rejects.toMatchObject({
      reason: { code: "image_too_large" },
      retryable: false,
    })
    expect(contents()).toEqual([])
  })

  it("is refused for another architecture, by the image's own word or the index's", async () => {
    const { reference } = await pushed({ architecture: "s390x" })
    await expect((await openStore()).ensure(wanted(reference), never)).rejects.toMatchObject({
      reason: { code: "image_wrong_architecture", message: expect.stringContaining("linux/s390x") },
    })
    const name = `image-${++number}`
    makeImage(join(shared, name), "foreign", { architecture: "s390x" })
    const digest = makeIndex(join(shared, name), "only", ["foreign"])
    await registry.push(join(shared, name), "only", `${name}:only`, "--all")
    for (const pinned of [null, digest])
      await expect((await openStore()).ensure(wanted(`${registry.host}/${name}:only`, pinned), never)).rejects.toMatchObject({
        reason: { code: "image_wrong_architecture" },
      })
    expect(contents()).toEqual([])
  })
})

describe("the store after a crash", () => {
  it("deletes what was half made or half deleted, and a folder without a record", async () => {
    const { reference, digest } = await pushed()
    await (await openStore()).ensure(wanted(reference), never)
    for (const name of [".new-1", ".old-2", `sha256-${"0".repeat(64)}`]) {
      mkdirSync(join(dir, "images", name, "rootfs"), { recursive: true })
      writeFileSync(join(dir, "images", name, "rootfs", "file"), "x")
    }
    await openStore()
    expect(contents()).toEqual([digest.replace(":", "-")])
  })
})

describe("images that nobody needs", () => {
  const now = { maxUnusedMs: 0, maxUnusedBytes: 0, graceMs: 0 }

  it("are deleted, while those in use or held are kept", async () => {
    const [live, held, unused] = [await pushed({ cmd: ["a"] }), await pushed({ cmd: ["b"] }), await pushed({ cmd: ["c"] })]
    const store = await openStore({ collect: now })
    for (const { reference } of [live, held, unused]) await store.ensure(wanted(reference), never)
    store.retain(held.digest, RUN)
    await store.collect(new Set([live.digest]))
    expect(contents().toSorted()).toEqual([live.digest, held.digest].map((digest) => digest.replace(":", "-")).toSorted())
    store.release(RUN)
    await store.collect(new Set())
    expect(contents()).toEqual([])
  })

  it("come back when they are asked for again", async () => {
    const { reference, digest } = await pushed()
    const store = await openStore({ collect: now })
    await store.ensure(wanted(reference), never)
    await store.collect(new Set())
    expect((await store.ensure(wanted(reference), never)).digest).toBe(digest)
  })
})
