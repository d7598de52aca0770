import { expect, it } from "vitest"
import { look, sentence } from "../../../node-bridge/disk/fill.ts"
import type { Fill } from "../../../node-bridge/disk/fill.ts"
import type { Usage } from "../../../node-bridge/disk/space.ts"

const MIB = 1024 ** 2
const aUsage = (parts: Partial<Usage> = {}): Usage => ({
  totalBytes: 1_000 * MIB,
  usedBytes: 0,
  freeBytes: 1_000 * MIB,
  files: 1_000,
  freeFiles: 1_000,
  ...parts,
})
/** Which of the looks were news. */
function news(...usages: Partial<Usage>[]): boolean[] {
  let fill: Fill = { full: null }
  return usages.map((parts) => {
    const seen = look(fill, aUsage(parts))
    fill = seen.fill
    return seen.news
  })
}

it("a full disk is told once for each filling", () => {
  const [full, empty] = [{ freeBytes: 0 }, { freeBytes: 500 * MIB }]
  expect(news({}, full, full, empty, full, full)).toEqual([false, true, false, false, true, false])
})

it("a disk with a little room again is still the same filling", () => {
  expect(news({ freeBytes: 0 }, { freeBytes: 3 * MIB }, { freeBytes: 0 })).toEqual([true, false, false])
})

it("a disk without inodes is full, however much space it has", () => {
  expect(look({ full: null }, aUsage({ freeFiles: 0 }))).toEqual({ fill: { full: "files" }, news: true })
  expect(sentence("files", aUsage())).toContain("1000")
})

it("a file system that numbers no inodes is not full for it", () => {
  expect(news({ files: 0, freeFiles: 0 })).toEqual([false])
})

it("one that is nearly full is not full", () => {
  expect(news({ freeBytes: 2 * MIB, freeFiles: 10 })).toEqual([false])
})
