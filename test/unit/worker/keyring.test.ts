import { beforeEach, describe, expect, it } from "vitest"
import { exportJWK, generateKeyPair } from "jose"
import { AppError } from "../../../schema/errors.ts"
import type { Directory } from "../../../worker/directory.ts"
import { openKeyring } from "../../../worker/keyring.ts"
import { TEST_ISSUER, TEST_SIGNING_KEY } from "../../support/signing-key.ts"
import { anId } from "../../support/factories.ts"
import { aToken } from "../../support/tokens.ts"

const env = { ISSUER: TEST_ISSUER, SIGNING_KEY: JSON.stringify(TEST_SIGNING_KEY) }
const MINUTE = 60_000

let stored: { kid: string; x: string }[] = []
let reads = 0
let nowMs = 0
const directory = {
  signingKeys: async () => {
    reads++
    return stored
  },
  keepSigningKey: async ({ kid, x }: { kid: string; x: string }) => void stored.push({ kid, x }),
} as unknown as Directory

beforeEach(() => {
  stored = []
  reads = 0
  nowMs = Date.now()
})
const open = (over: Partial<typeof env> = {}) => openKeyring({ ...env, ...over }, directory, { now: () => nowMs })

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
    expect(stored).toEqual([{ kid: TEST_SIGNING_KEY.kid, x: TEST_SIGNING_KEY.x }])
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
    stored.push({ kid: late.kid, x: late.key.x })
    for (let i = 0; i < 10; i++) await codeOf(keyring.verify(token))
    expect(reads).toBe(1)
    nowMs += 6_000
    expect(await codeOf(keyring.verify(token))).toBe("accepted")
    expect(reads).toBe(2)
  })

  it("believes a key for a minute at most after it was taken out of the directory, remembered tokens as well", async () => {
    const old = await anotherKey("old")
    stored.push({ kid: old.kid, x: old.key.x })
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
    expect(await open().publicKeys()).toEqual([{ kid: TEST_SIGNING_KEY.kid, x: TEST_SIGNING_KEY.x }])
  })
})
