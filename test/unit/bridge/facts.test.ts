import { expect, it } from "vitest"
import { capacityOf } from "../../../node-bridge/agent/facts.ts"

it("offers what the host has less its own reserve", () => {
  const capacity = capacityOf({ cpus: 2, memoryBytes: 8 * 1024 ** 3, pidMax: 32_768, diskBytes: 90 * 1024 ** 3 })
  expect(capacity).toMatchObject({ cpus: 2, pids: 30_720, disk_bytes: 90 * 1024 ** 3 })
  expect(capacity.memory_bytes).toBe(Math.floor(8 * 1024 ** 3 * 0.95) - 256 * 1024 ** 2)
  expect(capacityOf({ cpus: 1, memoryBytes: 100, pidMax: 100, diskBytes: 1 })).toMatchObject({ disk_bytes: 1, pids: 1 })
})
