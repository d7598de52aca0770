/** Rotation of the signing keys as an operator does it, over the real directory. */
import { decodeProtectedHeader } from "jose"
import { afterEach, describe, expect, it, vi } from "vitest"
import { MintedToken } from "../../schema/tokens.ts"
import { aTenant, call, problemOf } from "../support/api.ts"
import { TEST_SIGNING_KEY } from "../support/signing-key.ts"
import { aToken } from "../support/tokens.ts"

interface Key {
  readonly kid: string
  readonly state: string
  readonly signs_from: string | null
}
const operate = async (method: string, path: string) => call(method, path, { token: await aToken({ expiresIn: 100_000 }) })
const keys = async () => (await (await operate("GET", "/v1/admin/signing-keys")).json<{ items: Key[] }>()).items
const rotate = async () => (await operate("POST", "/v1/admin/signing-keys")).json<Key>()
const published = async () =>
  (await (await call("GET", "/.well-known/jwks.json")).json<{ keys: { kid: string }[] }>()).keys.map(({ kid }) => kid)
const later = (ms: number) => vi.spyOn(Date, "now").mockReturnValue(Date.now() + ms)

afterEach(async () => {
  vi.restoreAllMocks()
  for (const { kid } of await keys()) if (kid !== TEST_SIGNING_KEY.kid) await operate("DELETE", `/v1/admin/signing-keys/${kid}`)
})

async function minted(tenant: string): Promise<string> {
  const answer = await call("POST", `/v1/admin/tenants/${tenant}/tokens`, {
    token: await aToken({ expiresIn: 100_000 }),
    body: {},
  })
  return MintedToken.parse(await answer.json()).access_token
}
const reads = async (token: string) => (await call("GET", "/v1/containers", { token })).status

describe("the signing key", () => {
  it("is followed by another without anybody's noticing", async () => {
    const { id } = await aTenant()
    const before = await minted(id)
    const next = await rotate()
    expect(next.state).toBe("next")
    expect(Math.abs(Date.parse(next.signs_from ?? "") - Date.now() - 360_000)).toBeLessThan(10_000)
    expect(await published()).toEqual(expect.arrayContaining([TEST_SIGNING_KEY.kid, next.kid]))
    expect(decodeProtectedHeader(await minted(id)).kid).toBe(TEST_SIGNING_KEY.kid)
    later(361_000)
    const after = await minted(id)
    expect(decodeProtectedHeader(after).kid).toBe(next.kid)
    expect([await reads(before), await reads(after)]).toEqual([200, 200])
  })

  it("can be followed twice: what was replaced keeps no private half", async () => {
    const first = await rotate()
    later(361_000)
    const second = await rotate()
    expect(Object.fromEntries((await keys()).map(({ kid, state }) => [kid, state]))).toMatchObject({
      [first.kid]: "signing",
      [second.kid]: "next",
    })
    later(361_000)
    await rotate()
    const states = Object.fromEntries((await keys()).map(({ kid, state }) => [kid, state]))
    expect(states[second.kid]).toBe("signing")
    expect(states[first.kid]).toBeUndefined()
  })

  it("that others may have is distrusted, with all that it signed, for good", async () => {
    const { id } = await aTenant()
    const { kid } = await rotate()
    later(361_000)
    const token = await minted(id)
    expect(await reads(token)).toBe(200)
    expect((await operate("DELETE", `/v1/admin/signing-keys/${kid}`)).status).toBe(204)
    expect(await reads(token)).toBe(401)
    expect(await published()).not.toContain(kid)
    expect(decodeProtectedHeader(await minted(id)).kid).toBe(TEST_SIGNING_KEY.kid)
  })

  it("that the platform was set up with cannot be distrusted, nor one that there is not", async () => {
    expect((await problemOf(await operate("DELETE", `/v1/admin/signing-keys/${TEST_SIGNING_KEY.kid}`))).code).toBe(
      "action_not_allowed",
    )
    expect((await problemOf(await operate("DELETE", "/v1/admin/signing-keys/nobodys"))).code).toBe("not_found")
  })
})
