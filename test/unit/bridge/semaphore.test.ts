import { describe, expect, it } from "vitest"
import { semaphore } from "../../../node-bridge/agent/semaphore.ts"

describe("the semaphore", () => {
  const calm = new AbortController().signal
  it("lets a few in, and the others in their order", async () => {
    const gate = semaphore(2)
    const order: number[] = []
    const leave = [await gate.acquire(calm), await gate.acquire(calm)]
    const third = gate.acquire(calm).then((give) => (order.push(3), give))
    const fourth = gate.acquire(calm).then((give) => (order.push(4), give))
    leave[0]?.()
    leave[0]?.()
    await third
    expect(order).toEqual([3])
    leave[1]?.()
    await fourth
    expect(order).toEqual([3, 4])
  })

  it("forgets whoever is called off while waiting", async () => {
    const gate = semaphore(1)
    const leave = await gate.acquire(calm)
    const called = new AbortController()
    const waiting = gate.acquire(called.signal)
    called.abort(new Error("off"))
    await expect(waiting).rejects.toThrow("off")
    leave()
    await expect(gate.acquire(calm)).resolves.toBeTypeOf("function")
  })
})
