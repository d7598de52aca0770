/** A pipeline's way to a token, on the embedded control plane: its own issuer over real HTTP, and a rotation by the command. */
import { execFile } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { createRemoteJWKSet, decodeProtectedHeader, exportJWK, generateKeyPair, type JWTPayload, jwtVerify, SignJWT } from "jose"
import { afterAll, beforeAll, expect, it } from "vitest"
import { clientOf } from "../../bin/client.ts"
import { type ControlPlane, startControlPlane } from "../../bin/control-plane.ts"
import { makeSecretsKey, makeSigningKey, signOperatorToken } from "../../bin/keys.ts"

const ROOT = join(import.meta.dirname, "../..")
let state: string
let plane: ControlPlane
let issuer: Server
let issuerUrl: string
let operatorToken: string
let ownerToken: string
let sign: (claims: JWTPayload) => Promise<string>

beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), "berth-tokens-"))
  const signingKey = await makeSigningKey()
  plane = await startControlPlane({ state, port: 0, signingKey, secretsKey: makeSecretsKey(), issuerFile: join(state, "issuer") })
  operatorToken = await signOperatorToken(signingKey, plane.issuer, "operator", 600)
  const operator = clientOf(plane.url, operatorToken)
  const { id } = await operator.post<{ id: string }>("/v1/admin/tenants", { name: "acme" })
  ownerToken = (await operator.post<{ access_token: string }>(`/v1/admin/tenants/${id}/tokens`, {})).access_token

  const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid: "ci-1", alg: "RS256", use: "sig" }
  issuer = createServer((request, answer) => {
    const documents: Record<string, unknown> = {
      "/.well-known/openid-configuration": { issuer: issuerUrl, jwks_uri: `${issuerUrl}/keys` },
      "/keys": { keys: [jwk] },
    }
    answer.setHeader("content-type", "application/json").end(JSON.stringify(documents[request.url ?? ""] ?? {}))
  })
  issuer.listen(0, "127.0.0.1")
  await once(issuer, "listening")
  issuerUrl = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`
  sign = (claims) =>
    new SignJWT({ iss: issuerUrl, sub: "repo:acme/app", aud: plane.issuer, ...claims })
      .setProtectedHeader({ alg: "RS256", kid: "ci-1", typ: "JWT" })
      .setIssuedAt()
      .setExpirationTime("5m")
      .sign(privateKey)
})
afterAll(async () => {
  issuer?.close()
  await plane?.stop()
  await rm(state, { recursive: true, force: true })
})

it("gives a pipeline a narrow token for its issuer's, which holds no secret of ours", async () => {
  const owner = clientOf(plane.url, ownerToken)
  const trust = await owner.post<{ id: string }>("/v1/trusts", {
    name: "deploy",
    issuer: issuerUrl,
    conditions: [{ claim: "repository", equals: ["acme/app"] }],
    scopes: ["containers:read", "containers:create"],
    authorization_details: [{ type: "container", name_prefix: "web-" }],
  })
  const swap = async (claims: JWTPayload) =>
    fetch(`${plane.url}/oauth/token`, {
      method: "POST",
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
        subject_token: await sign(claims),
        client_id: trust.id,
      }),
    })
  const answer = await swap({ repository: "acme/app" })
  expect(answer.status).toBe(200)
  const { access_token } = (await answer.json()) as { access_token: string }
  const pipeline = clientOf(plane.url, access_token)
  const body = { image: "localhost/hello", start: false }
  expect(await pipeline.post("/v1/containers", { ...body, name: "web-1" })).toMatchObject({ name: "web-1" })
  await expect(pipeline.post("/v1/containers", { ...body, name: "db" })).rejects.toMatchObject({ status: 403 })
  expect((await swap({ repository: "evil/app" })).status).toBe(400)
})

it("has its signing key rotated by the command, and its tokens verified by anybody through the key set", async () => {
  const env = { ...process.env, BERTH_URL: plane.url, BERTH_OPERATOR_TOKEN: operatorToken }
  const { stdout } = await promisify(execFile)(process.execPath, ["bin/print-keys.ts", "rotate"], { cwd: ROOT, env })
  const key = JSON.parse(stdout) as { kid: string; state: string }
  expect(key.state).toBe("next")
  const keys = createRemoteJWKSet(new URL(`${plane.url}/.well-known/jwks.json`))
  const { payload } = await jwtVerify(ownerToken, keys, { issuer: plane.issuer, typ: "at+jwt" })
  expect(payload.sub).toBe("automation")
  expect(keys.jwks()?.keys.map(({ kid }) => kid)).toEqual(
    expect.arrayContaining([key.kid, decodeProtectedHeader(ownerToken).kid]),
  )
  expect(await clientOf(plane.url, ownerToken).get("/v1/containers")).toMatchObject({ items: [{ name: "web-1" }] })
})
