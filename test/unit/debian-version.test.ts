import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { compareDebianVersions } from "../../schema/debian-version.ts"

const SIGNS: Readonly<Record<string, number>> = { "<": -1, "=": 0, ">": 1 }
/** Every line is `A < B`, `A = B` or `A > B`. */
const ORDERS = join(import.meta.dirname, "../../../shared/data/version-order/debian.txt")

it.each([
  ["1.0~rc1", "<", "1.0"],
  ["1.0", "<", "1.0a"],
  ["1.0a", "<", "1.0+b"],
  ["1.9", "<", "1.10"],
  ["1.0", "=", "0:1.0-0"],
  ["1:0.1", ">", "9.9"],
  ["1.0.0~rc6+dfsg1-3", "<", "1.0.0~rc6+dfsg1-3+deb10u2"],
  ["1.1.5+ds1-1+b1", "<", "1.1.5+ds1-1+deb12u1"],
  ["1.1.5+ds1-1+deb12u1", "<", "1.1.5+ds1-1+deb12u10"],
  ["1.1.12+ds1-2", ">", "1.1.5+ds1-1+deb12u1"],
  ["20260101000000000000000000001", ">", "20260101000000000000000000000"],
] as const)("%s %s %s", (a, order, b) => {
  expect(Math.sign(compareDebianVersions(a, b))).toBe(SIGNS[order])
  expect(Math.sign(compareDebianVersions(b, a))).toBe(0 - (SIGNS[order] ?? NaN))
})

it.skipIf(!existsSync(ORDERS))("orders thousands of versions as dpkg does (needs ../shared/data)", () => {
  const lines = readFileSync(ORDERS, "utf8").split("\n").filter((line) => line !== "" && !line.startsWith("#")) // prettier-ignore
  expect(lines.length).toBeGreaterThan(1_000)
  const wrong = lines.filter((line) => {
    const [, a = "", order = "", b = ""] = /^(\S+) ([<=>]) (\S+)$/.exec(line) ?? []
    return Math.sign(compareDebianVersions(a, b)) !== SIGNS[order]
  })
  expect(wrong).toEqual([])
})
