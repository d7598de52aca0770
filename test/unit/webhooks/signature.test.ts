import { createPublicKey, verify } from "node:crypto"
import { Webhook } from "standardwebhooks"
import { describe, expect, it } from "vitest"
import {
  makeKeys, shownPublicKey, shownSecret, signedHeaders, signerOf,
} from "../../../durable/tenant/webhooks/signature.ts" // prettier-ignore

const ID = "evt_01kaz3v8q0f1x8t1m5y7c2d9e4"
const BODY = JSON.stringify({ type: "webhook.test", timestamp: "2026-11-23T18:30:01.420Z", data: { text: "größer" } })
const nowSeconds = () => Math.floor(Date.now() / 1000)

async function signed(...pairs: Awaited<ReturnType<typeof makeKeys>>[]) {
  return signedHeaders(await Promise.all(pairs.map(({ keys }) => signerOf(keys))), ID, nowSeconds(), BODY)
}

/** As a receiver that knows the public key alone does it. */
function verifiesEd25519(publicKey: string, headers: Record<string, string>, body: string): boolean {
  const raw = Buffer.from(publicKey.replace("whpk_", ""), "base64")
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: raw.toString("base64url") }, format: "jwk" })
  const content = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`)
  const signatures = (headers["webhook-signature"] ?? "").split(" ").filter((one) => one.startsWith("v1a,"))
  return signatures.some((one) => verify(null, content, key, Buffer.from(one.slice(4), "base64")))
}

describe("a signed message", () => {
  it("is taken by the public receiver of Standard Webhooks", async () => {
    const pair = await makeKeys()
    expect(new Webhook(shownSecret(pair.keys)).verify(BODY, await signed(pair))).toEqual(JSON.parse(BODY))
  })

  it("is refused by it with another secret, another body, another id", async () => {
    const [pair, other] = [await makeKeys(), await makeKeys()]
    const headers = await signed(pair)
    const receiver = new Webhook(shownSecret(pair.keys))
    expect(() => new Webhook(shownSecret(other.keys)).verify(BODY, headers)).toThrow("No matching signature")
    expect(() => receiver.verify(BODY.replace("größer", "kleiner"), headers)).toThrow("No matching signature")
    expect(() => receiver.verify(BODY, { ...headers, "webhook-id": "evt_other" })).toThrow("No matching signature")
  })

  it("verifies with the public key alone", async () => {
    const [pair, other] = [await makeKeys(), await makeKeys()]
    const headers = await signed(pair)
    expect(verifiesEd25519(shownPublicKey(pair.public_key), headers, BODY)).toBe(true)
    expect(verifiesEd25519(shownPublicKey(other.public_key), headers, BODY)).toBe(false)
    expect(verifiesEd25519(shownPublicKey(pair.public_key), headers, `${BODY} `)).toBe(false)
  })

  it("carries the signatures of old keys beside the new", async () => {
    const [current, previous] = [await makeKeys(), await makeKeys()]
    const headers = await signed(current, previous)
    for (const { keys, public_key } of [current, previous]) {
      expect(new Webhook(shownSecret(keys)).verify(BODY, headers)).toBeDefined()
      expect(verifiesEd25519(shownPublicKey(public_key), headers, BODY)).toBe(true)
    }
  })

  it("has a secret of 24 to 64 bytes, as the standard asks", async () => {
    const { keys } = await makeKeys()
    expect(shownSecret(keys)).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
  })
})
