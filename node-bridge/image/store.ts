/**
 * The images of this host: one folder per digest with an unpacked root, which nobody but root may enter. An image is there
 * whole or not at all: it is made under a temporary name and renamed, and what a crash left half made is deleted at start.
 *
 * `image.json` is written last inside the temporary folder; its time of change is when the image was last used. `access` has
 * a line for each repository that gave the image, and to whom.
 */
import { randomUUID } from "node:crypto"
import { appendFile, mkdir, readFile, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { ImageDigest } from "../../schema/container.ts"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { ImageStore, StoredImage, WantedImage } from "../runtime/ports.ts"
import { ANYONE, Access, repositoryOf } from "./access.ts"
import type { Asker } from "./access.ts"
import type { CollectPolicy } from "./collect.ts"
import { COLLECT_POLICY, imagesToDelete } from "./collect.ts"
import { faultOfFiles } from "./faults.ts"
import type { ScanLimits } from "./prescan.ts"
import { SCAN_LIMITS } from "./prescan.ts"
import { parseReference } from "./reference.ts"
import { SingleFlight } from "./single-flight.ts"
import { ImageSource } from "./source.ts"
import type { From } from "./source.ts"
import { syncDirectory, unpack } from "./unpack.ts"

export interface ImageStoreOptions {
  /** Folder of the store's own; made when absent. */
  readonly dir: string
  readonly imagesDir?: string | null
  readonly authFile?: string | null
  /** How long a tag's digest is believed without asking again. */
  readonly tagMemoMs?: number
  readonly resolveTimeoutMs?: number
  readonly pullTimeoutMs?: number
  /**
   * Whether images may name a registry on this host's loopback. Closed unless the operator runs one there: skopeo speaks from
   * the host, so any tenant could otherwise make it knock at the host's own ports.
   */
  readonly loopbackRegistries?: boolean
  readonly limits?: ScanLimits
  readonly collect?: CollectPolicy
}

/** A burst of starts asks the registry once; a new push is seen within a minute. */
const TAG_MEMO_MS = 60_000
const RESOLVE_TIMEOUT_MS = 20_000
const PULL_TIMEOUT_MS = 10 * 60_000
/** Bounds memory where tenants invent names; the oldest is forgotten first. */
const MAX_TAG_MEMOS = 10_000
/** Use is noted on disk at most so often. */
const NOTE_USE_EVERY_MS = 60_000

const Record = z.object({
  digest: ImageDigest,
  layout_digest: ImageDigest,
  reference: z.string(),
  bytes: z.number(),
  entries: z.number(),
  config: z.object({
    entrypoint: z.array(z.string()),
    cmd: z.array(z.string()),
    env: z.array(z.string()),
    workdir: z.string(),
    user: z.string(),
    stopSignal: z.string(),
  }),
})
type Record = z.infer<typeof Record>

interface Present {
  readonly image: StoredImage
  readonly bytes: number
  readonly access: Access
  lastUsedMs: number
  notedMs: number
}

interface Asked extends From {
  readonly text: string
  readonly tenantId: TenantId
  readonly repository: string
  /** Whom an answer of the repository is good for. */
  readonly asker: Asker
}

const folderOf = (digest: string) => digest.replace(":", "-")
const NEW = ".new-"
const OLD = ".old-"

export class DirectoryImageStore implements ImageStore {
  readonly #dir: string
  readonly #source: ImageSource
  readonly #limits: ScanLimits
  readonly #policy: CollectPolicy
  readonly #tagMemoMs: number
  readonly #loopbackRegistries: boolean
  readonly #present = new Map<string, Present>()
  readonly #holders = new Map<RunId, string>()
  readonly #tags = new Map<string, { readonly digest: string; readonly untilMs: number }>()
  readonly #resolving = new SingleFlight<string>()
  readonly #confirming = new SingleFlight<void>()
  readonly #pulling = new SingleFlight<StoredImage>()

  private constructor(options: ImageStoreOptions) {
    this.#dir = options.dir
    this.#limits = options.limits ?? SCAN_LIMITS
    this.#policy = options.collect ?? COLLECT_POLICY
    this.#tagMemoMs = options.tagMemoMs ?? TAG_MEMO_MS
    this.#loopbackRegistries = options.loopbackRegistries ?? false
    this.#source = new ImageSource({
      imagesDir: options.imagesDir ?? null,
      authFile: options.authFile ?? null,
      resolveTimeoutMs: options.resolveTimeoutMs ?? RESOLVE_TIMEOUT_MS,
      pullTimeoutMs: options.pullTimeoutMs ?? PULL_TIMEOUT_MS,
    })
  }

  /** Opens the store; deletes what a crash left half made or half deleted. */
  static async open(options: ImageStoreOptions): Promise<DirectoryImageStore> {
    const store = new DirectoryImageStore(options)
    await mkdir(options.dir, { recursive: true, mode: 0o700 })
    for (const name of await readdir(options.dir)) {
      const path = join(options.dir, name)
      if (name.startsWith(NEW) || name.startsWith(OLD)) await rm(path, { recursive: true, force: true })
      else await store.#load(path)
    }
    return store
  }

  async ensure(wanted: WantedImage, signal: AbortSignal): Promise<StoredImage> {
    signal.throwIfAborted()
    const asked = this.#understand(wanted)
    const { reference, repository, asker, tenantId } = asked
    const pinned = wanted.digest ?? reference.digest
    const digest = pinned ?? (await this.#resolve(asked, signal))
    const present = this.#use(digest)
    const missing = present?.access.needs(repository, tenantId) ?? "whole"
    if (present !== null && missing === "nothing") return present.image
    const key = `${digest} ${repository} ${asker}`
    // A tag's repository has named the digest itself.
    if (missing === "word" && pinned !== null) {
      await this.#confirming.join(key, signal, (shared) => this.#source.confirm(asked, digest, this.#dir, shared))
    }
    // It may have been collected in the meantime.
    if (present === null || missing === "whole" || this.#present.get(digest) !== present)
      return await this.#pulling.join(key, signal, (shared) => this.#pull(asked, digest, shared))
    await this.#allow(present, asked)
    return present.image
  }

  retain(digest: string, holder: RunId): void {
    this.#holders.set(holder, digest)
  }

  release(holder: RunId): void {
    this.#holders.delete(holder)
  }

  async collect(live: ReadonlySet<string>): Promise<void> {
    const needed = new Set([...live, ...this.#holders.values()])
    const images = [...this.#present].map(([digest, { bytes, lastUsedMs }]) => ({ digest, bytes, lastUsedMs }))
    for (const digest of imagesToDelete(images, needed, Date.now(), this.#policy)) {
      // Gone from memory first: from here on, whoever asks pulls it again.
      this.#present.delete(digest)
      const leaving = join(this.#dir, `${OLD}${randomUUID()}`)
      await rename(join(this.#dir, folderOf(digest)), leaving)
      await rm(leaving, { recursive: true, force: true })
    }
  }

  #understand({ reference: text, tenantId, credentials }: WantedImage): Asked {
    const reference = parseReference(text)
    if (reference === null) throw new ControllerError("image_not_found", "The image's name is no image reference.")
    if (reference.kind === "registry" && reference.plainHttp && !this.#loopbackRegistries) {
      throw new ControllerError("image_refused", "Images from a registry on the node itself are not allowed here.")
    }
    const asker = credentials === null || reference.kind === "local" ? ANYONE : tenantId
    return { text, reference, credentials, tenantId, repository: repositoryOf(reference), asker }
  }

  /** A tag's digest. Local layouts are looked at each time. */
  async #resolve(asked: Asked, signal: AbortSignal): Promise<string> {
    const key = `${asked.text} ${asked.asker}`
    const memo = this.#tags.get(key)
    if (memo !== undefined && memo.untilMs > performance.now()) return memo.digest
    const digest = await this.#resolving.join(key, signal, (shared) => this.#source.resolve(asked, this.#dir, shared))
    if (asked.reference.kind === "registry") {
      this.#tags.delete(key)
      this.#tags.set(key, { digest, untilMs: performance.now() + this.#tagMemoMs })
      const [oldest] = this.#tags.keys()
      if (this.#tags.size > MAX_TAG_MEMOS && oldest !== undefined) this.#tags.delete(oldest)
    }
    return digest
  }

  /** Fetches the whole image, and makes its root unless that is here. */
  async #pull(asked: Asked, digest: string, signal: AbortSignal): Promise<StoredImage> {
    const temporary = join(this.#dir, `${NEW}${randomUUID()}`)
    try {
      await mkdir(temporary, { mode: 0o700 })
      await this.#source.copy(asked, digest, temporary, signal)
      const present = this.#use(digest) ?? (await this.#unpack(asked.text, digest, temporary, signal))
      await this.#allow(present, asked)
      return present.image
    } catch (error) {
      throw faultOfFiles(error)
    } finally {
      await rm(temporary, { recursive: true, force: true })
    }
  }

  async #unpack(reference: string, digest: string, temporary: string, signal: AbortSignal): Promise<Present> {
    const { layoutDigest, bytes, entries, config } = await unpack(temporary, this.#limits, signal)
    await rm(join(temporary, "layout"), { recursive: true, force: true })
    await rm(join(temporary, "source"), { recursive: true, force: true })
    const record: Record = { digest, layout_digest: layoutDigest, reference, bytes, entries, config: copyOf(config) }
    await writeFile(join(temporary, "image.json"), JSON.stringify(record), { flush: true })
    await rename(temporary, join(this.#dir, folderOf(digest))).catch(ignoreExisting)
    await syncDirectory(this.#dir)
    return this.#present.get(digest) ?? this.#add(record, new Access(), Date.now())
  }

  /** A line that is lost with a crash is asked again. */
  async #allow({ image, access }: Present, { repository, asker }: Asked): Promise<void> {
    const line = access.add(repository, asker)
    // On a line of its own, whatever a crash left of the one before; without the folder the image has just been collected.
    if (line !== null) await appendFile(join(image.rootDir, "../access"), `\n${line}\n`, { mode: 0o600 }).catch(ignoreMissing)
  }

  #add(record: Record, access: Access, lastUsedMs: number): Present {
    const rootDir = join(this.#dir, folderOf(record.digest), "rootfs")
    const image: StoredImage = { digest: record.digest, rootDir, config: record.config }
    const present = { image, bytes: record.bytes, access, lastUsedMs, notedMs: lastUsedMs }
    this.#present.set(record.digest, present)
    return present
  }

  /** A folder without a readable record is of no use to anybody, and its name would be in the way of a new pull. */
  async #load(path: string): Promise<void> {
    try {
      const file = join(path, "image.json")
      const record = Record.parse(JSON.parse(await readFile(file, "utf8")))
      if (!path.endsWith(folderOf(record.digest))) throw new Error("the record is of another image")
      const access = await readFile(join(path, "access"), "utf8").catch(() => "")
      this.#add(record, Access.parse(access), (await stat(file)).mtimeMs)
    } catch {
      await rm(path, { recursive: true, force: true })
    }
  }

  #use(digest: string): Present | null {
    const present = this.#present.get(digest)
    if (present === undefined) return null
    const now = Date.now()
    present.lastUsedMs = now
    if (now - present.notedMs > NOTE_USE_EVERY_MS) {
      present.notedMs = now
      const file = join(this.#dir, folderOf(digest), "image.json")
      utimes(file, now / 1000, now / 1000).catch(() => {}) // only the order of deletion depends on it
    }
    return present
  }
}

const copyOf = (config: StoredImage["config"]) => ({
  ...config,
  entrypoint: [...config.entrypoint],
  cmd: [...config.cmd],
  env: [...config.env],
})

const ignoring =
  (...codes: readonly string[]) =>
  (error: unknown): void => {
    if (!(error instanceof Error && "code" in error && codes.includes(String(error.code)))) throw error
  }
/** Somebody else's pull of the same digest came first, and its content is the same. */
const ignoreExisting = ignoring("ENOTEMPTY", "EEXIST")
const ignoreMissing = ignoring("ENOENT")
