import { describe, expect, it } from "vitest"
import { assert, integer, property } from "fast-check"
import { TarError, TarReader } from "../../../node-bridge/image/tar-reader.ts"
import type { TarEntry } from "../../../node-bridge/image/tar-reader.ts"
import { paxHeader, tarArchive, tarEntry } from "../../support/tar.ts"

function read(archive: Buffer, chunkBytes = archive.length): TarEntry[] {
  const reader = new TarReader()
  const entries: TarEntry[] = []
  for (let at = 0; at < archive.length; at += chunkBytes) entries.push(...reader.push(archive.subarray(at, at + chunkBytes)))
  reader.end()
  return entries
}

const paths = (archive: Buffer) => read(archive).map(({ path }) => path)

describe("the reader of layers", () => {
  it("tells path, type, target, size and owner of every entry", () => {
    const archive = tarArchive(
      tarEntry({ path: "etc/", type: "5" }),
      tarEntry({ path: "etc/motd", data: "hello", uid: 1000, gid: 100 }),
      tarEntry({ path: "bin/sh", type: "2", target: "busybox" }),
      tarEntry({ path: "bin/ash", type: "1", target: "bin/busybox" }),
      tarEntry({ path: "dev/null", type: "3", device: [1, 3] }),
    )
    expect(read(archive)).toEqual([
      { path: "etc/", type: "directory", target: "", size: 0, uid: 0, gid: 0 },
      { path: "etc/motd", type: "file", target: "", size: 5, uid: 1000, gid: 100 },
      { path: "bin/sh", type: "symlink", target: "busybox", size: 0, uid: 0, gid: 0 },
      { path: "bin/ash", type: "hardlink", target: "bin/busybox", size: 0, uid: 0, gid: 0 },
      { path: "dev/null", type: "device", target: "", size: 0, uid: 0, gid: 0 },
    ])
  })

  it("reads the same however the bytes arrive", () => {
    const archive = tarArchive(
      paxHeader({ path: "a".repeat(200), size: "3" }),
      tarEntry({ path: "short", data: "xyz" }),
      tarEntry({ path: "long", type: "L", data: `${"b/".repeat(100)}c\0` }),
      tarEntry({ path: "cut", data: Buffer.alloc(2000, 1) }),
    )
    const whole = read(archive)
    expect(whole.map(({ size }) => size)).toEqual([3, 2000])
    assert(
      property(integer({ min: 1, max: 3000 }), (bytes) => {
        expect(read(archive, bytes)).toEqual(whole)
      }),
    )
  })

  it("takes long names of all three kinds", () => {
    expect(paths(tarArchive(tarEntry({ path: "name", prefix: "some/where" })))).toEqual(["some/where/name"])
    expect(paths(tarArchive(paxHeader({ path: "pax/name" }), tarEntry({ path: "x" })))).toEqual(["pax/name"])
    expect(paths(tarArchive(tarEntry({ path: "L", type: "L", data: "gnu/name\0" }), tarEntry({ path: "x" })))).toEqual([
      "gnu/name",
    ])
  })

  it("believes an extension for one entry only, and a global header for none", () => {
    const global = tarEntry({ path: "g", type: "g", data: "15 path=hidden\n" })
    expect(
      paths(tarArchive(global, paxHeader({ path: "first" }), tarEntry({ path: "x" }), tarEntry({ path: "second" }))),
    ).toEqual(["first", "second"])
  })

  it("does not take the data of a link for data", () => {
    expect(paths(tarArchive(tarEntry({ path: "l", type: "1", target: "a", size: 512 }), tarEntry({ path: "after" })))).toEqual([
      "l",
      "after",
    ])
  })

  it("reads numbers in base 256", () => {
    const entry = tarEntry({ path: "big", data: "" })
    entry.write(" ".repeat(8), 148)
    entry.fill(0, 108, 116)
    entry[108] = 0x80
    entry[113] = 1
    const sum = entry.reduce((total, byte) => total + byte, 0)
    entry.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148)
    expect(read(tarArchive(entry))[0]?.uid).toBe(65_536)
  })

  it.each([
    ["a sparse file", tarEntry({ path: "s", type: "S" })],
    ["a sparse file of pax", Buffer.concat([paxHeader({ "GNU.sparse.name": "/etc/shadow" }), tarEntry({ path: "x" })])],
    ["an unknown type", tarEntry({ path: "v", type: "V" })],
    [
      "two long names for one entry",
      Buffer.concat([paxHeader({ path: "a" }), tarEntry({ path: "L", type: "L", data: "b\0" }), tarEntry({ path: "x" })]),
    ],
    ["a path given twice", Buffer.concat([paxHeader({ path: "a" }), paxHeader({ path: "b" }), tarEntry({ path: "x" })])],
    ["a NUL in a pax path", Buffer.concat([paxHeader({ path: "a\0b" }), tarEntry({ path: "x" })])],
    [
      "a pax record with a wrong length",
      Buffer.concat([tarEntry({ path: "p", type: "x", data: "99 path=a\n" }), tarEntry({ path: "x" })]),
    ],
    ["a size that is no number", Buffer.concat([paxHeader({ size: "-1" }), tarEntry({ path: "x" })])],
    ["a GNU header with a prefix", tarEntry({ path: "x", magic: "ustar  \0", prefix: "../.." })],
    ["an old file with a slash at its end", tarEntry({ path: "d/", type: "\0", data: "x" })],
    ["an entry after an empty block", Buffer.concat([Buffer.alloc(512), tarEntry({ path: "x" })])],
  ])("refuses %s", (_what, bytes) => {
    expect(() => read(tarArchive(bytes))).toThrow(TarError)
  })

  it("refuses a header whose checksum is wrong", () => {
    const entry = tarEntry({ path: "x" })
    entry.write("y", 0)
    expect(() => read(tarArchive(entry))).toThrow(/checksum/)
  })

  /** Header and data are 512 + 700 bytes. */
  it.each([512, 7])(
    "reads a last entry without its padding, as umoci writes it, and none without its data: by %i bytes",
    (by) => {
      const whole = tarEntry({ path: "x", data: "a".repeat(700) })
      for (const length of [1_212, 1_213]) expect(read(whole.subarray(0, length), by)).toHaveLength(1)
      for (const length of [300, 512, 1_211]) expect(() => read(whole.subarray(0, length), by)).toThrow(TarError)
    },
  )

  it("reads nothing after the end of an archive", () => {
    expect(paths(Buffer.concat([tarArchive(tarEntry({ path: "x" })), tarEntry({ path: "hidden" })]))).toEqual(["x"])
  })
})
