/** Holding the kernel to a latency, on this machine's kernel. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import { expect, test } from "vitest"
import { Wakefulness } from "../../node-bridge/runtime/wakefulness.ts"
import { waitFor } from "../support/wait-for.ts"

const DEVICE = "/dev/cpu_dma_latency"

const holds = () => readdirSync("/proc/self/fd").filter((fd) => linkOf(`/proc/self/fd/${fd}`) === DEVICE)

function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return "" // the listing's own
  }
}

/** What the kernel is held to by all, in microseconds: reading the device gives it as a signed number of 32 bits. */
const latency = () => readFileSync(DEVICE).readInt32LE()

test.skipIf(!existsSync(DEVICE))("the processors are kept awake for a moment, which begins anew with each call", async () => {
  const wakefulness = new Wakefulness()
  wakefulness.stir()
  expect(holds()).toHaveLength(1)
  expect(latency()).toBe(0)
  for (let call = 0; call < 4; call++) {
    await delay(10)
    wakefulness.stir()
    expect(holds()).toHaveLength(1)
  }
  await waitFor("the wish to be taken back", () => holds().length === 0)
  wakefulness.stir()
  expect(holds()).toHaveLength(1)
  wakefulness.close()
  wakefulness.close()
  expect(holds()).toHaveLength(0)
})

test("a host without the device is no error", () => {
  const wakefulness = new Wakefulness("/nowhere/cpu_dma_latency")
  wakefulness.stir()
  wakefulness.stir()
  wakefulness.close()
})
