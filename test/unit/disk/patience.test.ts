import { describe, expect, it } from "vitest"
import { Patience } from "../../../node-bridge/disk/patience.ts"

const ANSWER_MS = 20
const hang = () => new Promise<never>(() => {})
const answer = () => Promise.resolve("here")

describe("a question to a disk or a device", () => {
  it("is answered, or fails as the disk says", async () => {
    const patience = new Patience(ANSWER_MS)
    expect(await patience.ask("a", answer)).toBe("here")
    await expect(patience.ask("a", () => Promise.reject(new Error("EIO")))).rejects.toThrow("EIO")
    expect(await patience.ask("a", answer)).toBe("here")
  })

  it("that hangs is given up, is not asked again, and keeps nobody else from an answer", async () => {
    const patience = new Patience(ANSWER_MS)
    expect(await patience.ask("hung", hang)).toBeNull()
    const before = performance.now()
    let asked = false
    expect(await patience.ask("hung", () => Promise.resolve((asked = true)))).toBeNull()
    expect(asked).toBe(false)
    expect(performance.now() - before).toBeLessThan(ANSWER_MS)
    expect(await patience.ask("other", answer)).toBe("here")
    expect([patience.hangs("hung"), patience.hangs("other")]).toEqual([true, false])
  })

  it("may have longer than others to answer", async () => {
    const patience = new Patience(ANSWER_MS)
    const slow = () => new Promise<string>((resolve) => void setTimeout(() => resolve("slow"), 3 * ANSWER_MS))
    expect(await patience.ask("a", slow, 1_000)).toBe("slow")
  })

  it("is one of two at most, waits for its turn, and is answered when those before it are", async () => {
    const patience = new Patience(1_000)
    const open: (() => void)[] = []
    const held = () => new Promise<string>((resolve) => open.push(() => resolve("late")))
    const all = ["a", "b", "c", "d"].map((subject) => patience.ask(subject, held))
    expect(open).toHaveLength(2)
    for (let each = 0; each < 4; each++) {
      open[each]?.()
      await new Promise(setImmediate)
      expect(open.length).toBeLessThanOrEqual(each + 3)
    }
    expect(await Promise.all(all)).toEqual(["late", "late", "late", "late"])
  })

  it("has no answer at once while two others hang, and one again when a disk comes back", async () => {
    const patience = new Patience(ANSWER_MS)
    const back = Promise.withResolvers<string>()
    expect(await Promise.all([patience.ask("a", () => back.promise), patience.ask("b", hang)])).toEqual([null, null])
    expect(await patience.ask("c", answer)).toBeNull()
    expect(patience.hangs("c")).toBe(false)
    back.resolve("back")
    await new Promise(setImmediate)
    expect(await patience.ask("c", answer)).toBe("here")
    expect(await patience.ask("a", answer)).toBe("here")
  })
})
