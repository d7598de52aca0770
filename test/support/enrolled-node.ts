/** A node as a host makes it: a key of its own, enrolled with a join token, connected through the worker with an assertion. */
import { env } from "cloudflare:workers"
import type { JWK } from "jose"
import { exportJWK, generateKeyPair, importJWK, SignJWT } from "jose"
import { JoinTokenAnswer } from "../../schema/api.ts"
import { EnrollAnswer, NODE_ASSERTION_TYP } from "../../schema/node.ts"
import { call } from "./api.ts"
import type { FakeNodeOptions } from "./fake-node.ts"
import { FakeNode } from "./fake-node.ts"
import { TEST_ISSUER } from "./signing-key.ts"
import { aToken } from "./tokens.ts"

export interface HostKey {
  readonly jwk: JWK
  readonly publicKey: { kty: "OKP"; crv: "Ed25519"; x: string }
}

export async function aHostKey(): Promise<HostKey> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true })
  const jwk = await exportJWK(privateKey)
  return { jwk, publicKey: { kty: "OKP", crv: "Ed25519", x: jwk.x ?? "" } }
}

export async function aJoinToken(body: object = {}): Promise<string> {
  const answer = await call("POST", "/v1/admin/join-tokens", { token: await aToken(), body })
  return JoinTokenAnswer.parse(await answer.json()).join_token
}

export const enroll = async (join_token: string, key: HostKey, headers: Record<string, string> = {}) =>
  call("POST", "/v1/nodes/enroll", { body: { join_token, public_key: key.publicKey, hostname: "host-1" }, headers })

export interface AssertionOptions {
  readonly kid?: string
  readonly iss?: string
  readonly sub?: string
  readonly aud?: string
  readonly typ?: string
  readonly expiresIn?: number
}

/** Valid by default, wrong in one chosen way. */
export async function anAssertion(nodeId: string, key: HostKey, options: AssertionOptions = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  return new SignJWT({})
    .setProtectedHeader({ alg: "EdDSA", typ: options.typ ?? NODE_ASSERTION_TYP, kid: options.kid ?? nodeId })
    .setIssuer(options.iss ?? nodeId)
    .setSubject(options.sub ?? nodeId)
    .setAudience(options.aud ?? TEST_ISSUER)
    .setJti(crypto.randomUUID())
    .setIssuedAt(now)
    .setExpirationTime(now + (options.expiresIn ?? 30))
    .sign(await importJWK(key.jwk, "EdDSA"))
}

export const dial = (assertion: string, headers: Record<string, string>): Promise<Response> =>
  call("GET", "/v1/nodes/connect", { token: assertion, headers })

export async function anEnrolledNode(
  options: Partial<FakeNodeOptions> & { labels?: Record<string, string>; cell_id?: string } = {},
) {
  const key = await aHostKey()
  const wanted = { labels: options.labels ?? {}, ...(options.cell_id !== undefined && { cell_id: options.cell_id }) }
  const { node_id, cell_id } = EnrollAnswer.parse(await (await enroll(await aJoinToken(wanted), key)).json())
  const assertion = await anAssertion(node_id, key)
  const node = await FakeNode.connect({
    namespace: env.NODE,
    cellId: cell_id,
    nodeId: node_id,
    dial: (headers) => dial(assertion, headers),
    ...options,
  })
  return { node, key, id: node_id, cellId: cell_id }
}
