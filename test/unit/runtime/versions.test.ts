import { expect, it } from "vitest"
import { distributionOf } from "../../../node-bridge/runtime/versions.ts"

it.each([
  ['PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n', "debian:12"],
  ['ID=ubuntu\nVERSION_ID="24.04"\nID_LIKE=debian\n', null],
  ["ID=debian\n", null], // testing and unstable have no number
  ["", null],
])("%j is %j", (text, distribution) => {
  expect(distributionOf(text)).toBe(distribution)
})
