import { beforeEach, describe, expect, it } from "vitest"
import { decodeProtectedHeader, exportJWK, generateKeyPair } from "jose"
import { sealerFor } from "../../../durable/shared/sealing.ts"
import { AppError } from "../../../schema/errors.ts"
import type { SigningKeyRow } from "../../../worker/directory-tokens.ts"
import type { Directory } from "../../../worker/directory.ts"
import { type Keyring, openKeyring } from "../../../worker/keyring.ts"
import { TEST_ISSUER, TEST_SIGNING_KEY } from "../../support/signing-key.ts"
import { anId } from "../../support/factories.ts"
import { aToken } from "../../support/tokens.ts"

const env = { ISSUER: TEST_ISSUER, SIGNING_KEY: JSON.stringify(TEST_SIGNING_KEY) }
const MINUTE = 60_000

let stored: SigningKeyRow[] = []
let reads = 0
let writes = 0
let nowMs = 0
const aRow = (row: { kid: string; x: string } & Partial<SigningKeyRow>): SigningKeyRow => ({
  sealed: null,
  signsFromMs: null,
  lastExpiryMs: nowMs + 3600_000,
  ...row,
})
/** As the directory does it, which test/routes/signing-keys.test.ts has for real. */
const directory = {
  signingKeys: async () => {
    reads++
    return stored
  },
  keepSigningKey: async ({ kid, x }: { kid: string; x: string }) => {
    writes++
    if (!stored.some((row) => row.kid === kid)) stored.push(aRow({ kid, x }))
  },
  addSigningKey: async (row: { kid: string; x: string; sealed: string; signsFromMs: number }) => void stored.push(aRow(row)),
} as unknown as Directory

beforeEach(() => {
  stored = []
  reads = 0
  writes = 0
  nowMs = Date.now()
})
const SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I"
const open = (over: Partial<typeof env> = {}, secret = SECRET) =>
  openKeyring({ ...env, ...over }, directory, sealerFor(secret, "signing keys"), { now: () => nowMs })

async function anotherKey(kid: string) {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true })
  const jwk = await exportJWK(privateKey)
  return { kid, key: { kty: "OKP", crv: "Ed25519", x: jwk.x ?? "", d: jwk.d ?? "" } }
}
const codeOf = async (promise: Promise<unknown>) =>
  promise.then(
    () => "accepted",
    (error: unknown) => (error instanceof AppError ? error.code : error),
  )

describe("a keyring", () => {
  it("signs tokens that it accepts, and keeps its key for the time after a rotation", async () => {
    const tenant = anId("ten")
    const claims = { subject: "ci", tenant, token: anId("tok"), scopes: ["a:b"], issuedAtMs: nowMs, expiresAtMs: nowMs + MINUTE }
    const token = await open().sign(claims)
    expect(stored).toMatchObject([{ kid: TEST_SIGNING_KEY.kid, x: TEST_SIGNING_KEY.x }])
    const next = await anotherKey("next")
    const rotated = open({ SIGNING_KEY: JSON.stringify({ ...next.key, kid: next.kid }) })
    expect(await rotated.verify(token)).toMatchObject({ subject: "ci", tenant, scopes: new Set(["a:b"]) })
  })

  it("forgets a remembered token when it expires", async () => {
    const keyring = open()
    const token = await aToken({ expiresIn: 20 })
    expect(await codeOf(keyring.verify(token))).toBe("accepted")
    nowMs += 30_000
    expect(await codeOf(keyring.verify(token))).toBe("token_expired")
  })

  it("reads the directory again for an unknown key, but not for every one that somebody invents", async () => {
    const keyring = open()
    const late = await anotherKey("late")
    const token = await aToken(late)
    expect(await codeOf(keyring.verify(token))).toBe("unauthenticated")
    stored.push(aRow({ kid: late.kid, x: late.key.x }))
    for (let i = 0; i < 10; i++) await codeOf(keyring.verify(token))
    expect(reads).toBe(1)
    nowMs += 6_000
    expect(await codeOf(keyring.verify(token))).toBe("accepted")
    expect(reads).toBe(2)
  })

  it("believes a key for a minute at most after it was taken out of the directory, remembered tokens as well", async () => {
    const old = await anotherKey("old")
    stored.push(aRow({ kid: old.kid, x: old.key.x }))
    const keyring = open()
    const token = await aToken(old)
    expect(await codeOf(keyring.verify(token))).toBe("accepted")
    stored = []
    nowMs += 61_000
    expect(await codeOf(keyring.verify(token))).toBe("unauthenticated")
  })

  it("says that it is set up wrongly without showing the key", () => {
    expect(() => open({ SIGNING_KEY: '{"kty":"OKP","d":"secret"}' }).signingKey()).toThrow(/^SIGNING_KEY is not a private/)
  })

  it("shows no private part", async () => {
    const { kid, x } = TEST_SIGNING_KEY
    expect(await open().keys()).toEqual([{ kid, x, state: "signing", signsFromMs: null }])
  })
})

const kidOf = (token: string) => decodeProtectedHeader(token).kid
const states = async (keyring: Keyring) => Object.fromEntries((await keyring.keys()).map(({ kid, state }) => [kid, state]))

describe("a rotation", () => {
  const LEAD_MS = 6 * MINUTE
  const claims = () => ({ subject: "ci", token: anId("tok"), scopes: ["a:b"], issuedAtMs: nowMs, expiresAtMs: nowMs + MINUTE })

  it("publishes the next key at once, signs with it once all can know it, and goes on verifying with the one before", async () => {
    const keyring = open()
    const before = await keyring.sign(claims())
    const next = await keyring.rotate()
    expect(await states(keyring)).toEqual({ [TEST_SIGNING_KEY.kid]: "signing", [next.kid]: "next" })
    expect(kidOf(await keyring.sign(claims()))).toBe(TEST_SIGNING_KEY.kid)
    nowMs += LEAD_MS - 1000
    expect(kidOf(await keyring.sign(claims()))).toBe(TEST_SIGNING_KEY.kid)
    nowMs += 1000
    const after = await keyring.sign({ ...claims(), expiresAtMs: nowMs + 10 * MINUTE })
    expect(kidOf(after)).toBe(next.kid)
    expect(await states(keyring)).toEqual({ [TEST_SIGNING_KEY.kid]: "verifying", [next.kid]: "signing" })
    expect(await codeOf(keyring.verify(after))).toBe("accepted")
    nowMs -= LEAD_MS
    expect(await codeOf(keyring.verify(before))).toBe("accepted")
  })

  it("reaches isolates that were there before, without one call refused", async () => {
    const [one, other] = [open(), open()]
    await other.keys()
    await one.rotate()
    nowMs += LEAD_MS
    const token = await one.sign({ ...claims(), expiresAtMs: nowMs + MINUTE })
    expect(await codeOf(other.verify(token))).toBe("accepted")
  })

  it("keeps the private half sealed, and goes on with SIGNING_KEY where it cannot be opened", async () => {
    const next = await open().rotate()
    expect(JSON.stringify(stored)).not.toMatch(/"d"/)
    nowMs += LEAD_MS
    const elsewhere = open({}, "b3RoZXIgc2VjcmV0IG90aGVyIHNlY3JldCBvdGhlcnM")
    expect(kidOf(await elsewhere.sign(claims()))).toBe(TEST_SIGNING_KEY.kid)
    expect((await elsewhere.keys()).map(({ kid }) => kid)).toContain(next.kid)
  })

  it("costs the directory a write for the first token of an hour, and not for every one", async () => {
    const keyring = open()
    for (let i = 0; i < 10; i++) await keyring.sign(claims())
    expect(writes).toBe(1)
  })
})
