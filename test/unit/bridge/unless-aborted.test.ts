import { getEventListeners } from "node:events"
import { expect, it } from "vitest"
import { unlessAborted } from "../../../node-bridge/unless-aborted.ts"

it("has the promise's outcome, and then no ear at the signal", async () => {
  const { signal } = new AbortController()
  expect(await unlessAborted(Promise.resolve(1), signal)).toBe(1)
  await expect(unlessAborted(Promise.reject(new Error("no")), signal)).rejects.toThrow("no")
  expect(getEventListeners(signal, "abort")).toEqual([])
})

it("has the signal's reason when that comes first, before the call or after it", async () => {
  const leaver = new AbortController()
  const waiting = unlessAborted(new Promise<never>(() => {}), leaver.signal)
  leaver.abort(new Error("gone"))
  await expect(waiting).rejects.toThrow("gone")
  await expect(unlessAborted(Promise.resolve(1), leaver.signal)).rejects.toThrow("gone")
})
