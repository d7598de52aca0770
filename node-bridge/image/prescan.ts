/**
 * What an image may not bring, decided on its archives before anything is unpacked. The program that unpacks keeps to the
 * root by itself; this is the second lock, and the only limit on size. Pure.
 *
 * Device nodes are not refused, for many base images carry a handful: their paths are told, and they are taken away after
 * unpacking. Roots are mounted without devices anyway. Set-uid bits and file capabilities stay, for every distribution has
 * them: roots are mounted nosuid and processes gain no privileges (no_new_privs), so neither means anything here.
 */
import { SeenLinks } from "./links.ts"
import type { TarEntry } from "./tar-reader.ts"

export interface ScanLimits {
  readonly maxBytes: number
  readonly maxEntries: number
  /** Of an archive to its packed form, once the archive is larger than `freeRatioBytes`. */
  readonly maxRatio: number
  readonly freeRatioBytes: number
}

/**
 * Images of many gigabytes exist (models, CUDA); one of a million files already takes a minute to unpack. Real layers pack 2
 * to 20 to 1, and gzip cannot do better than 1,032 to 1.
 */
export const SCAN_LIMITS: ScanLimits = {
  maxBytes: 32 * 1024 ** 3,
  maxEntries: 1_000_000,
  maxRatio: 200,
  freeRatioBytes: 256 * 1024 ** 2,
}
/** A tenant's user namespace has ids 0 to 65,535: a greater one would belong to nobody in it. */
const MAX_ID = 65_535
const MAX_COMPONENT_BYTES = 255
/** The kernel takes 4,096, of which the store's own path is a part. */
const MAX_PATH_BYTES = 2_048
/** Trees of modules within modules come to some 60. */
const MAX_DEPTH = 256
export const MOUNT_TARGETS: ReadonlySet<string> = new Set(["dev", "proc", "sys"])
const WHITEOUT = ".wh."
const OPAQUE = ".wh..wh..opq"
/** What a file takes at least on disk, and what a directory or link costs. */
const DISK_BLOCK_BYTES = 4_096

export type Verdict = { readonly kind: "refused"; readonly why: string } | { readonly kind: "too_large"; readonly why: string }

export class Prescan {
  readonly #limits: ScanLimits
  #bytes = 0
  #entries = 0
  readonly #devices: string[] = []
  readonly #links = new SeenLinks()

  constructor(limits: ScanLimits = SCAN_LIMITS) {
    this.#limits = limits
  }

  /** Bytes that all entries seen so far take on disk, whether or not later layers hide them: all are written. */
  get bytes(): number {
    return this.#bytes
  }
  get entries(): number {
    return this.#entries
  }
  /** Paths of device nodes, relative to the root. */
  get devices(): readonly string[] {
    return this.#devices
  }

  /** Null when the entry may be unpacked. */
  see(entry: TarEntry): Verdict | null {
    this.#entries++
    this.#bytes += Math.ceil(entry.size / DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES + (entry.type === "file" ? 0 : DISK_BLOCK_BYTES)
    if (this.#entries > this.#limits.maxEntries) return { kind: "too_large", why: `more than ${this.#limits.maxEntries} files` }
    if (this.#bytes > this.#limits.maxBytes)
      return { kind: "too_large", why: `more than ${this.#limits.maxBytes} bytes unpacked` }
    const components = componentsOf(entry.path)
    const place = this.#links.placeOf(components)
    if (place === null) return { kind: "refused", why: "a path goes through links without end" }
    const why = objection(entry, components) ?? objectionToPlace(entry, place)
    if (why !== null) return { kind: "refused", why }
    if (entry.type === "device") this.#devices.push(...new Set([components.join("/"), place.join("/")]))
    if (entry.type === "symlink") this.#links.add(place, entry.target)
    return null
  }

  /** `unpacked` bytes of one layer's archive came out of `packed` bytes; null when that is no bomb. */
  seeRatio(unpacked: number, packed: number): Verdict | null {
    const { maxRatio, freeRatioBytes } = this.#limits
    if (unpacked <= Math.max(freeRatioBytes, packed * maxRatio)) return null
    return { kind: "too_large", why: `a layer unpacks to more than ${maxRatio} times its size` }
  }
}

/** The runtime mounts over some places: a link there, however the archive gets it there, would turn the mount elsewhere. */
function objectionToPlace(entry: TarEntry, place: readonly string[]): string | null {
  const [top = ""] = place
  return place.length === 1 && MOUNT_TARGETS.has(top) && entry.type !== "directory" ? `/${top} is not a directory` : null
}

const componentsOf = (path: string) => path.split("/").filter((part) => part !== "" && part !== ".")

/** Why an entry may not be unpacked, in words for the image's maker; null when it may. */
function objection(entry: TarEntry, components: readonly string[]): string | null {
  if (components.includes("..")) return "an entry's path climbs out of the image"
  if (Buffer.byteLength(entry.path) > MAX_PATH_BYTES) return "an entry's path is too long"
  if (components.length > MAX_DEPTH) return `directories are more than ${MAX_DEPTH} deep`
  if (components.some((part) => Buffer.byteLength(part) > MAX_COMPONENT_BYTES)) return "an entry's name is too long"
  if (components.length === 0 && entry.type !== "directory") return "an entry replaces the root itself"
  if (entry.uid > MAX_ID || entry.gid > MAX_ID) return `a file belongs to an id above ${MAX_ID}`
  return objectionToWhiteout(components) ?? objectionToTarget(entry, components)
}

/** `.wh.NAME` takes NAME of the layers below away: of itself, of its parent or of another whiteout it means nothing good. */
function objectionToWhiteout(components: readonly string[]): string | null {
  const name = components.at(-1) ?? ""
  if (components.slice(0, -1).some((part) => part.startsWith(WHITEOUT))) return "a whiteout has entries inside"
  if (!name.startsWith(WHITEOUT) || name === OPAQUE) return null
  const hidden = name.slice(WHITEOUT.length)
  return hidden === "" || hidden === "." || hidden === ".." || hidden.startsWith(WHITEOUT) ? "a whiteout hides no file" : null
}

function objectionToTarget(entry: TarEntry, components: readonly string[]): string | null {
  if (entry.type === "hardlink") {
    const target = componentsOf(entry.target)
    if (target.length === 0 || target.includes("..")) return "a hard link leads out of the image"
  }
  if (entry.type === "symlink" && climbs(entry.target, components.length - 1)) return "a symbolic link leads out of the image"
  return null
}

/** Whether a link's target, read word by word from `depth` directories below the root, ever goes above it. */
function climbs(target: string, depth: number): boolean {
  let level = target.startsWith("/") ? 0 : depth
  for (const part of componentsOf(target)) {
    level += part === ".." ? -1 : 1
    if (level < 0) return true
  }
  return false
}
