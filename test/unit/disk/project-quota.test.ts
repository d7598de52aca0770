import { expect, it } from "vitest"
import { FIRST_PROJECT, nextProject } from "../../../node-bridge/disk/project-disks.ts"
import { encodeLimits } from "../../../node-bridge/native/project-quota.ts"

it("a project's number is free until its run is gone", () => {
  expect(nextProject([])).toBe(FIRST_PROJECT)
  expect(nextProject([FIRST_PROJECT, FIRST_PROJECT + 2])).toBe(FIRST_PROJECT + 1)
})

it("limits are laid out as the kernel reads them: hard and soft alike, bytes in blocks of 512", () => {
  const quota = encodeLimits(7, 1024 ** 3, 1000)
  expect(quota.length).toBe(112)
  expect([quota.readInt8(0), quota.readInt8(1), quota.readUInt16LE(2), quota.readUInt32LE(4)]).toEqual([1, 2, 0b1111, 7])
  expect([8, 16, 24, 32].map((at) => Number(quota.readBigUInt64LE(at)))).toEqual([2_097_152, 2_097_152, 1000, 1000])
  expect(quota.subarray(40).every((byte) => byte === 0)).toBe(true)
})
