import { expect, it, vi } from "vitest"
import { ReadyPool } from "../../../node-bridge/ready-pool.ts"

const counting = () => {
  let made = 0
  return () => ++made
}

it("gives what is ready in the order in which it was made, then nothing", async () => {
  const pool = new ReadyPool(2, counting())
  await pool.refill()
  expect([pool.take(), pool.take(), pool.take()]).toEqual([1, 2, undefined])
  await pool.close()
})

it("refills by itself once nothing was taken for a while", async () => {
  const make = vi.fn(counting())
  const pool = new ReadyPool(1, make)
  expect(pool.take()).toBeUndefined()
  await vi.waitFor(() => expect(make).toHaveBeenCalledOnce(), 5_000)
  expect(await pool.close()).toEqual([1])
})

it("leaves the refilling to its owner, who may fail at it", async () => {
  const whenQuiet = vi.fn(() => Promise.reject(new Error("no")))
  const pool = new ReadyPool(1, counting(), whenQuiet)
  pool.take()
  await vi.waitFor(() => expect(whenQuiet).toHaveBeenCalledOnce(), 5_000)
  expect(await pool.close()).toEqual([])
})

it("answers at its close what nobody took, and makes nothing more", async () => {
  const make = vi.fn(counting())
  const pool = new ReadyPool(100, make)
  const filling = pool.refill()
  await vi.waitFor(() => expect(make.mock.calls.length).toBeGreaterThan(1))
  const left = await pool.close()
  await filling
  expect(left).toHaveLength(make.mock.calls.length)
})
