/** Writes tar archives entry by entry, honest or not: what a hostile maker of images could send. */
import { Buffer } from "node:buffer"

export interface TarParts {
  readonly path: string
  /** The type flag; default a file. */
  readonly type?: string
  readonly target?: string
  readonly data?: string | Buffer
  /** Overrides the size that the header states. */
  readonly size?: number
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly device?: readonly [number, number]
  readonly magic?: string
  readonly prefix?: string
}

const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, "0")}\0`

export function tarEntry(parts: TarParts): Buffer {
  const data = Buffer.from(parts.data ?? "")
  const header = Buffer.alloc(512)
  header.write(parts.path, 0, 100)
  header.write(octal(parts.mode ?? 0o755, 8), 100)
  header.write(octal(parts.uid ?? 0, 8), 108)
  header.write(octal(parts.gid ?? 0, 8), 116)
  header.write(octal(parts.size ?? data.length, 12), 124)
  header.write(octal(0, 12), 136)
  header.write(" ".repeat(8), 148)
  header.write(parts.type ?? "0", 156, "latin1")
  header.write(parts.target ?? "", 157, 100)
  header.write(parts.magic ?? "ustar\x0000", 257, "latin1")
  const [major, minor] = parts.device ?? [0, 0]
  header.write(octal(major, 8), 329)
  header.write(octal(minor, 8), 337)
  header.write(parts.prefix ?? "", 345, 155)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148)
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)])
}

/** One pax header with these records, for the entry that follows. */
export function paxHeader(records: Readonly<Record<string, string>>): Buffer {
  const text = Object.entries(records)
    .map(([key, value]) => {
      const rest = ` ${key}=${value}\n`
      const bytes = Buffer.byteLength(rest)
      const guess = bytes + String(bytes).length
      const length = bytes + String(guess).length
      return `${length}${rest}`
    })
    .join("")
  return tarEntry({ path: "pax", type: "x", data: text })
}

export const tarArchive = (...entries: Buffer[]) => Buffer.concat([...entries, Buffer.alloc(1024)])
