import { expect, it } from "vitest"
import { seal, unseal } from "../../../worker/sealing.ts"
import { TEST_SIGNING_KEY } from "../../support/signing-key.ts"

const SECRET = TEST_SIGNING_KEY.d
const OTHER = TEST_SIGNING_KEY.x

it("opens what it sealed, and shows nothing of it before", async () => {
  const sealed = await seal(SECRET, "op:a k", "a token")
  expect(sealed).not.toContain("token")
  expect(await unseal(SECRET, "op:a k", sealed)).toBe("a token")
})

it("does not open it for another owner, with another key, or when it was changed", async () => {
  const sealed = await seal(SECRET, "op:a k", "a token")
  expect(await unseal(SECRET, "op:b k", sealed)).toBeUndefined()
  expect(await unseal(OTHER, "op:a k", sealed)).toBeUndefined()
  expect(await unseal(SECRET, "op:a k", `${sealed.slice(0, -2)}AA`)).toBeUndefined()
})
