/**
 * Reads the headers of a tar archive as it streams by: ustar, pax and GNU long names
 * (https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06, tar(5)). Strict on purpose: a reader
 * that guesses sees other entries than the program that unpacks, so whatever can be read in two ways is refused. Pure.
 *
 * Where readers differ, this one does as Go's archive/tar, on which umoci stands: links, directories, devices and pipes have
 * no data whatever their size says, and a global pax header changes no entry.
 */

const BLOCK_BYTES = 512
/** Long names and attributes of one entry; Go's own limit for such headers. */
const MAX_EXTENSION_BYTES = 1024 * 1024

export type EntryType = "file" | "hardlink" | "symlink" | "device" | "directory" | "fifo"

export interface TarEntry {
  readonly path: string
  readonly type: EntryType
  /** The target of a link; empty for all else. */
  readonly target: string
  /** Bytes of data that follow; 0 for all but files. */
  readonly size: number
  readonly uid: number
  readonly gid: number
}

/** The archive cannot be read, or could be read in two ways. */
export class TarError extends Error {
  override readonly name = "TarError"
}

const TYPES: Readonly<Record<string, EntryType>> = {
  "0": "file", "\0": "file", "1": "hardlink", "2": "symlink", "3": "device", "4": "device", "5": "directory", "6": "fifo", "7": "file",
} // prettier-ignore

interface Extension {
  path?: string
  target?: string
  size?: number
  uid?: number
  gid?: number
}

export class TarReader {
  #pending = Buffer.alloc(0)
  /** Bytes still to pass over: data and its padding. */
  #skip = 0
  /** How much of that, at its end, is padding. */
  #padding = 0
  #collect: { readonly type: string; readonly size: number } | null = null
  #extension: Extension = {}
  #zeroBlocks = 0

  /** Entries whose headers are complete with this chunk. Throws `TarError`. */
  push(chunk: Buffer): TarEntry[] {
    const entries: TarEntry[] = []
    let data = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    for (;;) {
      if (this.#skip > 0) {
        const passed = Math.min(this.#skip, data.length)
        this.#skip -= passed
        data = data.subarray(passed)
        if (this.#skip > 0) break
      }
      const wanted = this.#collect?.size ?? BLOCK_BYTES
      if (data.length < wanted) break
      const part = data.subarray(0, wanted)
      data = data.subarray(wanted)
      if (this.#collect !== null) {
        this.#pass(wanted, 0)
        this.#extend(this.#collect.type, part)
        this.#collect = null
      } else {
        const entry = this.#header(part)
        if (entry !== null) entries.push(entry)
      }
    }
    this.#pending = Buffer.from(data)
    return entries
  }

  /** `left` of an entry's `size` bytes are still to come, and its padding. */
  #pass(size: number, left: number): void {
    this.#padding = padding(size)
    this.#skip = left + this.#padding
  }

  /** The archive ends here. Throws when it ends inside an entry; umoci pads no layer's last one, and Go reads that. */
  end(): void {
    if (this.#zeroBlocks >= 2) return
    if (this.#skip > this.#padding || this.#collect !== null || this.#pending.length > 0)
      throw new TarError("it ends in the middle of an entry")
  }

  #header(block: Buffer): TarEntry | null {
    // Two blocks of zeros are the end: nothing after them is unpacked.
    if (this.#zeroBlocks >= 2) return null
    if (block.every((byte) => byte === 0)) {
      this.#zeroBlocks++
      return null
    }
    if (this.#zeroBlocks === 1) throw new TarError("an entry follows an empty block")
    checkSum(block)
    const type = String.fromCharCode(block[156] ?? 0)
    const size = number(block, 124, 12)
    if ("xgLK".includes(type)) {
      if (size > MAX_EXTENSION_BYTES) throw new TarError("an extended header is too large")
      this.#collect = { type, size }
      return null
    }
    const kind = TYPES[type]
    if (kind === undefined) throw new TarError(`it has an entry of the unknown type ${JSON.stringify(type)}`)
    return this.#entry(block, kind, type, size)
  }

  #entry(block: Buffer, type: EntryType, flag: string, headerSize: number): TarEntry {
    const extension = this.#extension
    this.#extension = {}
    const path = extension.path ?? pathOf(block)
    const size = type === "file" ? (extension.size ?? headerSize) : 0
    // In old archives a file with a slash at its end is a directory, with or without data: two ways to read it.
    if (flag === "\0" && path.endsWith("/")) throw new TarError("it has a file that is also a directory")
    this.#pass(size, size)
    const target = type === "hardlink" || type === "symlink" ? (extension.target ?? text(block, 157, 100)) : ""
    return {
      path,
      type,
      target,
      size,
      uid: extension.uid ?? number(block, 108, 8),
      gid: extension.gid ?? number(block, 116, 8),
    }
  }

  #extend(type: string, data: Buffer): void {
    if (type === "g") return
    const found =
      type === "x"
        ? paxRecords(data)
        : type === "L"
          ? { path: text(data, 0, data.length) }
          : { target: text(data, 0, data.length) }
    for (const key of Object.keys(found)) if (key in this.#extension) throw new TarError(`an entry has two of ${key}`)
    Object.assign(this.#extension, found)
  }
}

const padding = (size: number) => (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES

function checkSum(block: Buffer): void {
  let sum = 0
  for (let at = 0; at < BLOCK_BYTES; at++) sum += at >= 148 && at < 156 ? 32 : (block[at] ?? 0)
  if (sum !== number(block, 148, 8)) throw new TarError("a header's checksum is wrong")
}

/** Text up to the first NUL. Names that are not UTF-8 are kept apart from each other well enough by latin1 escapes. */
function text(block: Buffer, offset: number, length: number): string {
  const field = block.subarray(offset, offset + length)
  const end = field.indexOf(0)
  return field.subarray(0, end === -1 ? length : end).toString("utf8")
}

/** Octal digits, or base 256 when the first bit is set. */
function number(block: Buffer, offset: number, length: number): number {
  const first = block[offset] ?? 0
  if ((first & 0x80) !== 0) {
    if ((first & 0x40) !== 0) throw new TarError("a header has a negative number")
    let value = BigInt(first & 0x3f)
    for (let at = offset + 1; at < offset + length; at++) value = (value << 8n) | BigInt(block[at] ?? 0)
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new TarError("a header has a number beyond all measure")
    return Number(value)
  }
  const digits = block.toString("latin1", offset, offset + length).replace(/^[ \0]+|[ \0]+$/g, "")
  if (digits === "") return 0
  if (!/^[0-7]+$/.test(digits)) throw new TarError("a header has a number that is none")
  return Number.parseInt(digits, 8)
}

function pathOf(block: Buffer): string {
  const name = text(block, 0, 100)
  const magic = block.toString("latin1", 257, 265)
  if (magic === "ustar\x0000") {
    const prefix = text(block, 345, 155)
    return prefix === "" ? name : `${prefix}/${name}`
  }
  // GNU tar keeps times where ustar keeps the prefix; some readers take other contents there for a prefix all the same.
  if (magic === "ustar  \0" && !/^[0-7 \0]*$/.test(block.toString("latin1", 345, 369)))
    throw new TarError("a header has two formats")
  return name
}

/** Records of the form `LENGTH KEY=VALUE\n`, where LENGTH counts itself. */
function paxRecords(data: Buffer): Extension {
  const extension: Extension = {}
  let rest = data
  while (rest.length > 0) {
    const space = rest.indexOf(0x20)
    const length = Number(rest.toString("latin1", 0, Math.max(space, 0)))
    if (space < 1 || !Number.isInteger(length) || length <= space + 2 || length > rest.length || rest[length - 1] !== 0x0a)
      throw new TarError("an extended header cannot be read")
    const record = rest.subarray(space + 1, length - 1)
    rest = rest.subarray(length)
    const equals = record.indexOf(0x3d)
    if (equals < 1) throw new TarError("an extended header cannot be read")
    paxRecord(extension, record.toString("utf8", 0, equals), record.subarray(equals + 1))
  }
  return extension
}

function paxRecord(extension: Extension, key: string, value: Buffer): void {
  if (key.startsWith("GNU.sparse.")) throw new TarError("it has a file with holes")
  if (value.length === 0) return // an empty value takes an earlier one away, and there is none
  const once = (name: keyof Extension) => {
    if (name in extension) throw new TarError(`an entry has two of ${name}`)
  }
  const words = () => {
    if (value.includes(0)) throw new TarError("a name has a zero byte")
    return value.toString("utf8")
  }
  const count = () => {
    if (!/^\d{1,15}$/.test(value.toString("latin1"))) throw new TarError("an extended header has a number that is none")
    return Number(value.toString("latin1"))
  }
  switch (key) {
    case "path":
      once("path")
      extension.path = words()
      break
    case "linkpath":
      once("target")
      extension.target = words()
      break
    case "size":
    case "uid":
    case "gid":
      once(key)
      extension[key] = count()
      break
    default: // times, names of owners, attributes: nothing here depends on them
  }
}
