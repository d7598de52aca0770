import { describe, expect, it } from "vitest"
import { imagesToDelete } from "../../../node-bridge/image/collect.ts"
import type { Candidate, CollectPolicy } from "../../../node-bridge/image/collect.ts"

const NOW = 1_000_000
const policy: CollectPolicy = { maxUnusedMs: 1_000, maxUnusedBytes: 100, graceMs: 10 }
const anImage = (digest: string, age: number, bytes = 10): Candidate => ({ digest, bytes, lastUsedMs: NOW - age })
const plan = (images: Candidate[], needed: string[] = []) => imagesToDelete(images, new Set(needed), NOW, policy)

describe("the choice of images to delete", () => {
  it("keeps what somebody needs, however old", () => {
    expect(plan([anImage("a", 1e6)], ["a"])).toEqual([])
  })

  it("lets go what was not used for long, and keeps what was used of late", () => {
    expect(plan([anImage("old", 1_000), anImage("new", 999)])).toEqual(["old"])
  })

  it("lets the longest unused go when all together take too much", () => {
    expect(plan([anImage("c", 100, 60), anImage("a", 300, 60), anImage("b", 200, 60)])).toEqual(["a", "b"])
  })

  it("does not count what is needed against the unused", () => {
    expect(plan([anImage("big", 500, 1_000), anImage("small", 500, 50)], ["big"])).toEqual([])
  })

  it("never takes what was used a moment ago", () => {
    expect(plan([anImage("a", 9, 1_000)])).toEqual([])
  })
})
