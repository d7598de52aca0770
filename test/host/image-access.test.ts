import { readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { DirectoryImageStore } from "../../node-bridge/image/store.ts"
import type { ImageStoreOptions } from "../../node-bridge/image/store.ts"
import { ControllerError } from "../../node-bridge/runtime/controller.ts"
import { formatId } from "../../schema/ids.ts"
import { makeImage, temporaryFolder, wanted } from "../support/images.ts"
import { startRegistry } from "../support/registry.ts"
import type { Registry } from "../support/registry.ts"
import { waitFor } from "../support/wait-for.ts"

const never = new AbortController().signal
const tenant = (at: number) => formatId("ten", at, new Uint8Array(10))
const [anna, ben] = [tenant(1), tenant(2)]
const PASSWORD = "pass:word-of-anna"
const credentials = { username: "anna", password: PASSWORD }

/** Gives to everybody. */
let open: Registry
/** Gives to Anna's credentials. */
let closed: Registry
let layout = ""
let dir = ""

beforeAll(async () => {
  layout = join(temporaryFolder("access"), "layout")
  open = await startRegistry()
  closed = await startRegistry({ login: { name: credentials.username, password: PASSWORD } })
})
afterAll(async () => {
  await Promise.all([open.stop(), closed.stop()])
  rmSync(join(layout, ".."), { recursive: true })
})
beforeEach(() => {
  dir = temporaryFolder("store")
})
afterEach(() => rmSync(dir, { recursive: true }))

const openStore = (more: Partial<ImageStoreOptions> = {}) =>
  DirectoryImageStore.open({ dir: join(dir, "images"), loopbackRegistries: true, ...more })

let number = 0
/** An image of its own, in the first repository alone. */
async function pushedTo(registry: Registry, name = "app"): Promise<{ tag: string; digest: string; repository: string }> {
  const tag = `t${++number}`
  const digest = makeImage(layout, tag, { env: [`N=${number}`] })
  await registry.push(layout, tag, `${name}:${tag}`)
  return { tag, digest, repository: `${registry.host}/${name}` }
}
const forget = (registry: Registry, name: string) =>
  rmSync(join(registry.storage, "docker/registry/v2/repositories", name), { recursive: true })

async function fault(store: DirectoryImageStore, ...what: Parameters<typeof wanted>) {
  return await store.ensure(wanted(...what), never).then(
    () => "no fault",
    (error: unknown) => error,
  )
}
const notFound = { reason: { code: "image_not_found" } }
const unauthorized = { reason: { code: "image_unauthorized" } }

describe("an image that the node has already", () => {
  it("is not given under the name of a repository that has it not", async () => {
    const { digest, repository } = await pushedTo(open)
    const store = await openStore()
    await store.ensure(wanted(`${repository}@${digest}`), never)
    for (const text of [`${open.host}/other@${digest}`, `${open.host}/other`]) {
      expect(await fault(store, text, digest)).toMatchObject(notFound)
    }
    expect(await fault(store, `127.0.0.1:9/app@${digest}`)).toMatchObject({
      reason: { code: "registry_unreachable" },
      retryable: true,
    })
  })

  it("is given under another repository that says it has it, and from then on without asking, after a restart too", async () => {
    const { digest, tag, repository } = await pushedTo(open)
    await open.push(layout, tag, `second:${tag}`)
    const store = await openStore()
    const first = await store.ensure(wanted(`${repository}:${tag}`), never)
    const second = `${open.host}/second@${digest}`
    expect(await store.ensure(wanted(second), never)).toBe(first)
    forget(open, "second")
    for (const after of [store, await openStore()]) expect((await after.ensure(wanted(second), never)).digest).toBe(digest)
  })
})

describe("an image behind credentials", () => {
  it("is pulled with a tenant's own, and is that tenant's alone from then on", async () => {
    const { digest, tag, repository } = await pushedTo(closed)
    const store = await openStore()
    const byTag = `${repository}:${tag}`
    expect(await fault(store, byTag, null, { tenantId: anna })).toMatchObject(unauthorized)
    await store.ensure(wanted(byTag, null, { tenantId: anna, credentials }), never)

    for (const after of [store, await openStore()]) {
      // Known by digest, and so without a question; another tenant must show its own.
      expect(await fault(after, byTag, digest, { tenantId: anna })).toBe("no fault")
      expect(await fault(after, byTag, digest, { tenantId: ben })).toMatchObject(unauthorized)
      expect(await fault(after, byTag, null, { tenantId: ben })).toMatchObject(unauthorized)
      const wrong = { tenantId: ben, credentials: { ...credentials, password: "guess" } }
      expect(await fault(after, byTag, digest, wrong)).toMatchObject({
        reason: { code: "image_unauthorized", message: expect.stringContaining("these credentials") },
      })
    }
    expect(await fault(store, byTag, digest, { tenantId: ben, credentials })).toBe("no fault")
  })

  it("is not given to somebody whose registry has its manifest and not its layers", async () => {
    const { digest, tag, repository } = await pushedTo(closed)
    const store = await openStore()
    await store.ensure(wanted(`${repository}:${tag}`, null, { tenantId: anna, credentials }), never)
    const manifest = readFileSync(join(layout, "blobs", ...digest.split(":")))
    const thief = createServer((request, response) => {
      const isManifest = request.url?.includes("/manifests/")
      response.writeHead(isManifest || request.url === "/v2/" ? 200 : 404, {
        "Content-Type": "application/vnd.oci.image.manifest.v1+json",
      })
      response.end(isManifest ? manifest : "")
    })
    await new Promise<void>((resolve) => thief.listen(0, "127.0.0.1", resolve))
    const stolen = `127.0.0.1:${(thief.address() as AddressInfo).port}/app`
    for (const text of [`${stolen}@${digest}`, `${stolen}:1`])
      expect(await fault(store, text, null, { tenantId: ben })).toBeInstanceOf(ControllerError)
    thief.closeAllConnections()
    thief.close()
  })

  it("comes from an open repository too, once that gave it whole", async () => {
    const { digest, tag, repository } = await pushedTo(closed)
    const store = await openStore()
    await store.ensure(wanted(`${repository}:${tag}`, null, { tenantId: anna, credentials }), never)
    await open.push(layout, tag, `published:${tag}`)
    const published = `${open.host}/published@${digest}`
    expect(await fault(store, published, null, { tenantId: ben })).toBe("no fault")
    expect(readdirSync(join(dir, "images"))).toEqual([digest.replace(":", "-")])
    forget(open, "published")
    expect(await fault(store, published, null, { tenantId: tenant(3) })).toBe("no fault")
  })

  it("that one tenant pulls at this moment is not given to another who waits beside it", async () => {
    const { digest, repository } = await pushedTo(closed)
    const store = await openStore()
    const reference = `${repository}@${digest}`
    const [annas, bens] = await Promise.all([
      fault(store, reference, null, { tenantId: anna, credentials }),
      fault(store, reference, null, { tenantId: ben }),
    ])
    expect(annas).toBe("no fault")
    expect(bens).toMatchObject(unauthorized)
  })
})

describe("a tenant's credentials", () => {
  it("are in no argument, environment, folder or message, though the registry throws them back", async () => {
    const arrived: string[] = []
    const { promise: looked, resolve: answer } = Promise.withResolvers<void>()
    const server = createServer((request, response) => {
      const shown = request.headers.authorization ?? ""
      if (shown === "") {
        response.writeHead(401, { "WWW-Authenticate": 'Basic realm="x"' }).end()
        return
      }
      arrived.push(shown)
      const decoded = Buffer.from(shown.replace("Basic ", ""), "base64").toString()
      const errors = [{ code: "DENIED", message: `no image for ${shown} that is ${decoded}` }]
      response.writeHead(403, { "Content-Type": "application/json" })
      void looked.then(() => response.end(JSON.stringify({ errors })))
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const store = await openStore()
    const said = fault(store, `127.0.0.1:${(server.address() as AddressInfo).port}/app@sha256:${"1".repeat(64)}`, null, {
      credentials,
    })
    await waitFor("skopeo to show the credentials", () => arrived.length > 0)
    expect(arrived[0]).toBe(`Basic ${Buffer.from(`anna:${PASSWORD}`).toString("base64")}`)
    const secrets = [PASSWORD, Buffer.from(`anna:${PASSWORD}`).toString("base64")]
    const tools = childrenNamed("skopeo")
    expect(tools.length).toBeGreaterThan(0)
    const seen = tools.flatMap((pid) => ["cmdline", "environ"].map((file) => readFileSync(`/proc/${pid}/${file}`, "utf8")))
    const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    seen.push(...files.map((entry) => readFileSync(join(entry.parentPath, entry.name), "utf8")))
    answer()
    const error = await said
    expect(error).toMatchObject(unauthorized)
    if (error instanceof ControllerError) seen.push(error.message, String(error.cause))
    expect(seen.at(-1)).toContain("[credentials]")
    for (const text of seen) for (const secret of secrets) expect(text).not.toContain(secret)
    expect(memoryFiles()).toEqual([])
    server.closeAllConnections()
    server.close()
  })
})

/** Processes below this one whose program is called so. */
function childrenNamed(name: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      const [, comm, parent] = /^\d+ \((.*)\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? []
      return comm === name && parent === String(process.pid)
    } catch {
      return false // it has ended
    }
  })
}

/** What of auth files in memory this process still holds. */
function memoryFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const to = readlinkSync(`/proc/self/fd/${fd}`)
      return to.includes("registry-credentials") ? [to] : []
    } catch {
      return [] // the descriptor that lists this folder
    }
  })
}
