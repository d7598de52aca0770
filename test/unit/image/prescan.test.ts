import { describe, expect, it } from "vitest"
import { Prescan, SCAN_LIMITS } from "../../../node-bridge/image/prescan.ts"
import type { TarEntry } from "../../../node-bridge/image/tar-reader.ts"

const anEntry = (parts: Partial<TarEntry> = {}): TarEntry => ({
  path: "etc/motd",
  type: "file",
  target: "",
  size: 1,
  uid: 0,
  gid: 0,
  ...parts,
})
const verdict = (parts: Partial<TarEntry>) => new Prescan().see(anEntry(parts))

describe("the look through an image", () => {
  it.each([
    ["a plain file", {}],
    ["an absolute path, which is the root's own", { path: "/etc/motd" }],
    ["the root", { path: "./", type: "directory" }],
    ["a link inside", { path: "usr/bin/x", type: "symlink", target: "../lib/x" }],
    ["an absolute link", { path: "etc/mtab", type: "symlink", target: "/proc/mounts" }],
    ["a link up to the root itself", { path: "usr/lib/ssl/certs", type: "symlink", target: "../../../etc/ssl/certs" }],
    ["a hard link inside", { path: "bin/a", type: "hardlink", target: "/bin/b" }],
    ["directories to mount on", { path: "./proc/", type: "directory" }],
    ["a link below /dev", { path: "dev/fd", type: "symlink", target: "/proc/self/fd" }],
    ["a whiteout", { path: "etc/.wh.motd" }],
    ["an opaque whiteout", { path: "etc/.wh..wh..opq" }],
    ["the greatest id that a tenant has", { uid: 65_535, gid: 65_535 }],
    ["a pipe", { type: "fifo" }],
  ] as const)("lets %s pass", (_what, parts) => {
    expect(verdict(parts)).toBeNull()
  })

  it.each([
    ["a path that climbs", { path: "../etc/passwd" }],
    ["a path that climbs on the way", { path: "a/../../etc/passwd" }],
    ["a hard link that leads out", { path: "a", type: "hardlink", target: "../../etc/shadow" }],
    ["a hard link to nothing", { path: "a", type: "hardlink", target: "/" }],
    ["a link that leads out", { path: "a/b", type: "symlink", target: "../../etc" }],
    ["a link that leads out by a detour", { path: "a", type: "symlink", target: "/usr/../../etc" }],
    ["/dev as a link", { path: "dev", type: "symlink", target: "/tmp" }],
    ["/proc as a link", { path: "./proc", type: "symlink", target: "tmp" }],
    ["/sys as a file", { path: "/sys" }],
    ["a root that is a link", { path: "./", type: "symlink", target: "etc" }],
    ["a whiteout of itself", { path: "a/.wh.." }],
    ["a whiteout of the parent", { path: "a/.wh..." }],
    ["a whiteout of nothing", { path: "a/.wh." }],
    ["a whiteout of a whiteout", { path: "a/.wh..wh.plnk" }],
    ["files inside a whiteout", { path: "a/.wh.b/c" }],
    ["an owner outside the tenant's ids", { uid: 65_536 }],
    ["a group outside the tenant's ids", { gid: 70_000 }],
    ["directories deeper than anybody needs", { path: "d/".repeat(300) }],
    ["a path longer than the kernel takes below the store", { path: `${"a".repeat(200)}/`.repeat(11) }],
    ["a name that no file system takes", { path: "a".repeat(256) }],
  ] as const)("refuses %s", (_what, parts) => {
    expect(verdict(parts)).toMatchObject({ kind: "refused" })
  })

  it.each([
    ["through a link to the root", [["a", "/"]], "a/dev"],
    ["through a link upwards", [["usr/up", ".."]], "usr/up/proc"],
    [
      "through links one after another",
      [
        ["x", "y/z"],
        ["y/z", ".."],
        ["a", "x"],
      ],
      "a/sys",
    ],
    [
      "through a link that lies behind a link",
      [
        ["a", "/b"],
        ["a/c", "/"],
      ],
      "b/c/dev",
    ],
  ] as const)("refuses a mount point that is brought in %s", (_what, links, path) => {
    const scan = new Prescan()
    for (const [name, target] of links) expect(scan.see(anEntry({ path: name, type: "symlink", target, size: 0 }))).toBeNull()
    expect(scan.see(anEntry({ path, type: "symlink", target: "tmp" }))).toMatchObject({ kind: "refused" })
    expect(scan.see(anEntry({ path, type: "directory" }))).toBeNull()
  })

  it("follows links no longer than the kernel does", () => {
    const scan = new Prescan()
    scan.see(anEntry({ path: "a", type: "symlink", target: "b" }))
    scan.see(anEntry({ path: "b", type: "symlink", target: "a" }))
    expect(scan.see(anEntry({ path: "a/file" }))).toMatchObject({ kind: "refused", why: expect.stringContaining("without end") })
  })

  it("lets files pass that lie behind links, as in every root with /bin in /usr", () => {
    const scan = new Prescan()
    scan.see(anEntry({ path: "bin", type: "symlink", target: "usr/bin" }))
    scan.see(anEntry({ path: "dev", type: "directory" }))
    for (const path of ["bin/sh", "dev/console", "bin/dev"]) expect(scan.see(anEntry({ path }))).toBeNull()
  })

  it("takes an archive that grows without measure for a bomb, whatever is in it", () => {
    const scan = new Prescan({ ...SCAN_LIMITS, maxRatio: 100, freeRatioBytes: 1_000 })
    expect(scan.seeRatio(1_000, 1)).toBeNull()
    expect(scan.seeRatio(100_000, 1_000)).toBeNull()
    expect(scan.seeRatio(100_001, 1_000)).toMatchObject({ kind: "too_large" })
  })

  it("counts bytes as the disk does, and stops at the limit", () => {
    const scan = new Prescan({ ...SCAN_LIMITS, maxBytes: 16_384 })
    expect(scan.see(anEntry({ size: 1 }))).toBeNull()
    expect(scan.see(anEntry({ type: "directory", size: 0 }))).toBeNull()
    expect(scan.bytes).toBe(8_192)
    expect(scan.see(anEntry({ size: 9_000 }))).toMatchObject({ kind: "too_large" })
  })

  it("counts entries, for a million empty files are a bomb too", () => {
    const scan = new Prescan({ ...SCAN_LIMITS, maxEntries: 2 })
    expect([1, 2, 3].map(() => scan.see(anEntry({ size: 0 }))?.kind)).toEqual([undefined, undefined, "too_large"])
  })

  it("tells which device nodes there will be", () => {
    const scan = new Prescan()
    expect(scan.see(anEntry({ path: "./dev/null", type: "device" }))).toBeNull()
    expect(scan.devices).toEqual(["dev/null"])
    scan.see(anEntry({ path: "a", type: "symlink", target: "/etc" }))
    scan.see(anEntry({ path: "a/disk", type: "device" }))
    expect(scan.devices).toEqual(["dev/null", "a/disk", "etc/disk"])
  })
})
