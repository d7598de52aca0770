/**
 * A disk for each run: an ext4 file system of exactly the quota's size in a sparse file. What the container writes beyond it
 * is refused with ENOSPC, its inodes are numbered, and `df` inside tells both.
 *
 * The file never has a name (O_TMPFILE), its loop device lets it go by itself, and its mount is a descriptor: so a disk lives
 * exactly as long as the container's own mount of it, bridge or no bridge, and its space is free the moment that is gone.
 * There is nothing to sweep after a crash.
 *
 * The file system has no journal and asks for no write barriers: no container lives on after a crash of its host, so nobody
 * will ever read this disk then. A flush inside costs the other containers nothing.
 */
import { chownSync, close, closeSync, constants, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from "node:fs"
import { chown, mkdir, rmdir } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { GIB } from "../../schema/container.ts"
import type { RunId } from "../../schema/ids.ts"
import { attachLoop, dataStretches, mountFileSystem } from "../native/file-systems.ts"
import { ReadyPool } from "../ready-pool.ts"
import { ControllerError } from "../runtime/controller.ts"
import { exec } from "../runtime/exec.ts"
import type { Disks, HeldPath } from "../runtime/ports.ts"
import { piecesOf } from "./pieces.ts"
import type { Piece } from "./pieces.ts"

/** What a container gets that names no size; the pool holds disks of this size alone. */
export const POOLED_BYTES = GIB
/**
 * A burst of starts as large as we promise to be quick for. Each costs the host some 150 KiB of memory and as much disk, so
 * all of them less than a handful of idle containers.
 */
const DEFAULT_POOL_SIZE = 40

/** One block is one page; one inode for 8 KiB is twice the usual, for trees of small files are what containers write. */
const BLOCK_BYTES = 4096
const BYTES_PER_INODE = 8192
const MAKE_TIMEOUT_MS = 60_000
/** `discard` gives the host's space back when a file inside is deleted. */
const MOUNT_OPTIONS = ["barrier=0", "discard"]
/** Fresh file systems remembered by size, and how large one may be: at 100 GiB it is 1 MiB. */
const MAX_REMEMBERED = 32
const MAX_REMEMBERED_BYTES = 256 * 1024
const O_TMPFILE = 0o20200000

export interface ImageDiskOptions {
  /** Folder on the file system that the disks take their space from; made when absent. */
  readonly dir: string
  /** Disks kept ready. */
  readonly poolSize?: number
}

const closed = promisify(close)

export class ImageDisks implements Disks {
  readonly kind = "image"
  readonly #dir: string
  readonly #seed: string
  readonly #fresh = new Map<number, readonly Piece[]>()
  /** Descriptors of their roots. */
  readonly #ready: ReadyPool<number>
  #closed = false

  private constructor(options: ImageDiskOptions) {
    this.#dir = options.dir
    this.#seed = join(options.dir, "seed")
    this.#ready = new ReadyPool(options.poolSize ?? DEFAULT_POOL_SIZE, () => this.#make(POOLED_BYTES))
  }

  /** Proves with one disk that this host can make them. Throws a sentence for the operator. */
  static async open(options: ImageDiskOptions): Promise<ImageDisks> {
    const disks = new ImageDisks(options)
    // What every disk begins with.
    for (const name of ["upper", "work"]) mkdirSync(join(disks.#seed, name), { recursive: true })
    try {
      disks.#ready.add(await disks.#make(POOLED_BYTES))
    } catch (cause) {
      throw new Error("Disks of a fixed size cannot be made on this host: that takes loop devices, ext4 and mkfs.ext4.", {
        cause,
      })
    }
    return disks
  }

  async take(_runId: RunId, bytes: number, owner: number): Promise<HeldPath> {
    if (this.#closed) throw new Error("the disks are closed")
    const fd = (bytes === POOLED_BYTES ? this.#ready.take() : undefined) ?? (await this.#makeForTenant(bytes))
    const path = `/proc/${process.pid}/fd/${fd}`
    let held = true
    const release = () => {
      // Ours may be the last reference, and taking a file system down waits for its disk.
      if (held) close(fd, () => {})
      held = false
    }
    try {
      for (const name of ["upper", "work"]) chownSync(join(path, name), owner, owner)
      return { path, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** The kernel has freed it with the container's last mount of it. */
  async release(): Promise<void> {}

  /** What still lives holds its own disk; the rest is gone. */
  async recover(): Promise<void> {}

  refill(): Promise<void> {
    return this.#ready.refill()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await Promise.all((await this.#ready.close()).map((fd) => closed(fd)))
  }

  async #makeForTenant(bytes: number): Promise<number> {
    try {
      return await this.#make(bytes)
    } catch (cause) {
      const tooLarge = cause instanceof Error && "code" in cause && cause.code === "EFBIG"
      throw tooLarge
        ? new ControllerError("disk_too_large", "The node's file system cannot hold a disk of this size.", { cause })
        : new ControllerError("disk_failed", "The node could not make the container's disk.", { retryable: true, cause })
    }
  }

  /** A descriptor of the mounted file system's root. */
  async #make(bytes: number): Promise<number> {
    const file = openSync(this.#dir, O_TMPFILE | constants.O_RDWR, 0o600)
    try {
      ftruncateSync(file, bytes)
      const pieces = this.#fresh.get(bytes)
      if (pieces === undefined) await this.#format(file, bytes)
      else for (const { at, data } of pieces) writeSync(file, data, 0, data.length, at)
      const loop = await attachLoop(file)
      try {
        const fd = await mountFileSystem("ext4", loop.path, MOUNT_OPTIONS)
        await warm(fd)
        return fd
      } finally {
        await closed(loop.fd)
      }
    } finally {
      closeSync(file)
    }
  }

  /** A program of some 5 ms. What it wrote is remembered: the next disk of this size is a copy. */
  async #format(file: number, bytes: number): Promise<void> {
    const path = `/proc/${process.pid}/fd/${file}`
    // The file is a hole: inode tables are zero already, and nothing needs to be discarded.
    const extended = "lazy_itable_init=1,assume_storage_prezeroed=1,nodiscard,root_owner=0:0"
    const args = ["-q", "-F", "-b", `${BLOCK_BYTES}`, "-i", `${BYTES_PER_INODE}`, "-m", "0", "-E", extended]
    const features = "^has_journal,^resize_inode"
    const { code, stderr } = await exec("mkfs.ext4", [...args, "-O", features, "-d", this.#seed, path], {
      timeoutMs: MAKE_TIMEOUT_MS,
    })
    if (code !== 0) throw new Error(`mkfs.ext4: ${stderr.trim()}`)
    const stretches = dataStretches(file)
    if (stretches.reduce((sum, { from, to }) => sum + to - from, 0) > MAX_REMEMBERED_BYTES) return
    const pieces = stretches.flatMap(({ from, to }) => {
      const data = Buffer.alloc(to - from)
      readSync(file, data, 0, data.length, from)
      return piecesOf(data, from, BLOCK_BYTES)
    })
    const [oldest] = this.#fresh.keys()
    if (this.#fresh.size >= MAX_REMEMBERED && oldest !== undefined) this.#fresh.delete(oldest)
    this.#fresh.set(bytes, pieces)
  }
}

/** Reads ahead of need what the one who takes the disk is going to change: owners, and the maps of what is free, for overlayfs. */
async function warm(fd: number): Promise<void> {
  const root = `/proc/self/fd/${fd}`
  try {
    for (const name of ["upper", "work"]) await chown(join(root, name), 0, 0)
    await mkdir(join(root, "work/work"))
    await rmdir(join(root, "work/work"))
  } catch (error) {
    await closed(fd)
    throw error
  }
}
