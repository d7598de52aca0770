import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, it, vi } from "vitest"
import { EndWatch } from "../../../node-bridge/runtime/end-watch.ts"

let exits: string
let watch: EndWatch
beforeEach(() => {
  exits = mkdtempSync(join(tmpdir(), "exits-"))
  watch = new EndWatch(exits)
})
afterEach(() => {
  vi.useRealTimers()
  watch.close()
  rmSync(exits, { recursive: true })
})

const never = new AbortController().signal

it("wakes who waits for a run when its exit file is written, and nobody else", async () => {
  const other = vi.fn<() => void>()
  void watch.hint("run_b", never, () => true).then(other)
  const hint = watch.hint("run_a", never, () => true)
  writeFileSync(join(exits, "run_a"), "0")
  await hint
  expect(other).not.toHaveBeenCalled()
})

it("wakes nobody while the run is watched, and soon after it no longer is", async () => {
  vi.useFakeTimers()
  let watched = true
  const woken = vi.fn<() => void>()
  const hint = watch.hint("run_a", never, () => watched).then(woken)
  await vi.advanceTimersByTimeAsync(10_000)
  expect(woken).not.toHaveBeenCalled()
  watched = false
  await vi.advanceTimersByTimeAsync(1_000)
  await hint
})

it("wakes at once when the wait is called off", async () => {
  const abort = new AbortController()
  const hint = watch.hint("run_a", abort.signal, () => true)
  abort.abort()
  await hint
})
