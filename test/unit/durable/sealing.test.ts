import { describe, expect, it } from "vitest"
import { sealerFor } from "../../../durable/shared/sealing.ts"
import { TEST_SECRETS_KEY } from "../../support/signing-key.ts"

const sealer = sealerFor(TEST_SECRETS_KEY, "tests")
const reversed = [...TEST_SECRETS_KEY].toReversed().join("")

describe("a sealer", () => {
  it("opens what it sealed, and shows nothing of it before", async () => {
    const sealed = await sealer.seal("op:a k", "a token")
    expect(sealed).not.toContain("token")
    expect(await sealer.unseal("op:a k", sealed)).toBe("a token")
  })

  it("does not open it for another owner, another purpose, with another key, or when it was changed", async () => {
    const sealed = await sealer.seal("op:a k", "a token")
    expect(await sealer.unseal("op:b k", sealed)).toBeUndefined()
    expect(await sealerFor(TEST_SECRETS_KEY, "something else").unseal("op:a k", sealed)).toBeUndefined()
    expect(await sealerFor(reversed, "tests").unseal("op:a k", sealed)).toBeUndefined()
    expect(await sealer.unseal("op:a k", `${sealed.slice(0, -2)}AA`)).toBeUndefined()
  })

  it("says what is missing where the platform has no key", async () => {
    await expect(sealerFor(undefined, "tests").seal("a", "b")).rejects.toThrow("SECRETS_KEY is not set")
  })
})
