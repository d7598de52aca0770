/**
 * Loaded before the bridge (`node --import`): its wall clock is off by `CLOCK_AHEAD_MS`, and of each second that the kernel counts
 * since boot it counts only `CLOCK_RATE`. The kernel lets nobody set a wall clock for a few processes alone, and its time
 * namespaces shift the time since boot and cannot stretch it.
 */
import { syncBuiltinESMExports } from "node:module"
import os from "node:os"

const aheadMs = Number(process.env.CLOCK_AHEAD_MS)
const rate = Number(process.env.CLOCK_RATE)

const { now } = Date
Date.now = () => now() + aheadMs
globalThis.Date = new Proxy(Date, {
  construct: (target, words: [], asked) => Reflect.construct(target, words.length === 0 ? [Date.now()] : words, asked),
})

const { uptime } = os
const begunAt = uptime()
os.uptime = () => begunAt + (uptime() - begunAt) * rate
syncBuiltinESMExports()
