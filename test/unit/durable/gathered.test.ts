import { describe, expect, test } from "vitest"
import { Gathered } from "../../../durable/tenant/gathered.ts"

/** Calls that wait until they are told to end. */
function calls() {
  const made: { items: readonly string[]; goOn: () => void; end: () => void; fail: (error: Error) => void }[] = []
  const gathered = new Gathered<string>((items, goOn) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    made.push({ items, goOn, end: resolve, fail: reject })
    return promise
  })
  return { gathered, made }
}

/** Long after every promise that is settled by now has been heard of. */
const turn = () => new Promise<void>((resolve) => void setImmediate(resolve))

describe("gathering calls", () => {
  test("the first goes at once, what comes meanwhile goes together as the next", async () => {
    const { gathered, made } = calls()
    const first = gathered.add(["a"])
    await turn()
    const rest = [gathered.add(["b"]), gathered.add(["c", "d"])]
    await turn()
    expect(made.map(({ items }) => items)).toEqual([["a"]])
    made[0]?.end()
    await first
    await turn()
    expect(made.map(({ items }) => items)).toEqual([["a"], ["b", "c", "d"]])
    made[1]?.end()
    await Promise.all(rest)
  })

  test("the next one begins as soon as the one before lets it", async () => {
    const { gathered, made } = calls()
    const first = gathered.add(["a"])
    await turn()
    const second = gathered.add(["b"])
    made[0]?.goOn()
    await turn()
    expect(made.map(({ items }) => items)).toEqual([["a"], ["b"]])
    made[1]?.end()
    await second
    made[0]?.end()
    await first
  })

  test("a failure is heard by those who went along, and by nobody else", async () => {
    const { gathered, made } = calls()
    const first = gathered.add(["a"])
    await turn()
    const second = gathered.add(["b"])
    made[0]?.fail(new Error("no answer"))
    await expect(first).rejects.toThrow("no answer")
    await turn()
    made[1]?.end()
    await expect(second).resolves.toBeUndefined()
  })
})
