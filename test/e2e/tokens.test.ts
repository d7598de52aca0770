/** Tokens on the whole platform: a pipeline's, by an issuer over real HTTP; a rotation by the command; a container's own. */
import { execFile } from "node:child_process"
import { once } from "node:events"
import { rmSync } from "node:fs"
import { createServer, get, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { promisify } from "node:util"
import { createRemoteJWKSet, decodeProtectedHeader, exportJWK, generateKeyPair, type JWTPayload, jwtVerify, SignJWT } from "jose"
import { afterAll, beforeAll, expect, it } from "vitest"
import { clientOf } from "../../bin/client.ts"
import { makeHelloImage } from "../../bin/hello-image.ts"
import { layoutOf } from "../../bin/platform.ts"
import { hostPaths, runPaths } from "../../node-bridge/runtime/paths.ts"
import { IDENTITY_SOCKET } from "../../schema/identity.ts"
import { RunId } from "../../schema/ids.ts"
import { temporaryFolder } from "../support/images.ts"
import { openPlatform, tenantOf, type TestPlatform } from "../support/platform.ts"

const ROOT = join(import.meta.dirname, "../..")
const state = temporaryFolder("tokens")
let berth: TestPlatform
let url: string
let issuer: Server
let issuerUrl: string
let ownerToken: string
let sign: (claims: JWTPayload) => Promise<string>

beforeAll(async () => {
  await makeHelloImage(layoutOf(state).images)
  berth = await openPlatform({ state })
  url = berth.platform.url
  ownerToken = berth.platform.token

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
    new SignJWT({ iss: issuerUrl, sub: "repo:acme/app", aud: url, ...claims })
      .setProtectedHeader({ alg: "RS256", kid: "ci-1", typ: "JWT" })
      .setIssuedAt()
      .setExpirationTime("5m")
      .sign(privateKey)
})
afterAll(async () => {
  issuer?.close()
  await berth?.stop()
  rmSync(state, { recursive: true, force: true })
})

it("gives a pipeline a narrow token for its issuer's, which holds no secret of ours", async () => {
  const owner = clientOf(url, ownerToken)
  const trust = await owner.post<{ id: string }>("/v1/trusts", {
    name: "deploy",
    issuer: issuerUrl,
    conditions: [{ claim: "repository", equals: ["acme/app"] }],
    scopes: ["containers:read", "containers:create"],
    authorization_details: [{ type: "container", name_prefix: "web-" }],
  })
  const swap = async (claims: JWTPayload) =>
    fetch(`${url}/oauth/token`, {
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
  const pipeline = clientOf(url, access_token)
  const body = { image: "localhost/hello", start: false }
  expect(await pipeline.post("/v1/containers", { ...body, name: "web-1" })).toMatchObject({ name: "web-1" })
  await expect(pipeline.post("/v1/containers", { ...body, name: "db" })).rejects.toMatchObject({ status: 403 })
  expect((await swap({ repository: "evil/app" })).status).toBe(400)
})

it("has its signing key rotated by the command, and its tokens verified by anybody through the key set", async () => {
  const env = { ...process.env, BERTH_URL: url, BERTH_OPERATOR_TOKEN: berth.platform.operatorToken }
  const { stdout } = await promisify(execFile)(process.execPath, ["bin/print-keys.ts", "rotate"], { cwd: ROOT, env })
  const key = JSON.parse(stdout) as { kid: string; state: string }
  expect(key.state).toBe("next")
  const keys = createRemoteJWKSet(new URL(`${url}/.well-known/jwks.json`))
  const { payload } = await jwtVerify(ownerToken, keys, { issuer: url, typ: "at+jwt" })
  expect(payload.sub).toBe("owner")
  expect(keys.jwks()?.keys.map(({ kid }) => kid)).toEqual(
    expect.arrayContaining([key.kid, decodeProtectedHeader(ownerToken).kid]),
  )
  expect(await clientOf(url, ownerToken).get("/v1/containers")).toMatchObject({ items: [{ name: "web-1" }] })
})

it("tells a container what it is, in words that anybody can verify", async () => {
  const tenant = tenantOf(url, ownerToken)
  const { id } = await tenant.create({
    image: "localhost/hello",
    name: "who",
    command: ["sleep", "60"],
    identity: true,
    labels: { app: "who" },
  })
  const { run } = await tenant.reaches(id, "running")
  const runId = RunId.parse(run?.id)
  const socketPath = join(runPaths(hostPaths(layoutOf(state).node), runId).identity, IDENTITY_SOCKET)
  const { token } = await new Promise<{ token: string }>((resolve, reject) => {
    get({ socketPath, path: "/token?audience=https://vault.example" }, (answer) => {
      let text = ""
      answer.on("data", (chunk) => (text += String(chunk))).on("end", () => resolve(JSON.parse(text)))
    }).on("error", reject)
  })
  const keys = createRemoteJWKSet(new URL(`${url}/.well-known/jwks.json`))
  const { payload } = await jwtVerify(token, keys, { issuer: url, audience: "https://vault.example" })
  expect(payload).toMatchObject({
    container_id: id,
    container_name: "who",
    run_id: runId,
    labels: { app: "who" },
    tenant_name: "demo",
  })
  expect(
    (
      await tenant
        .call("GET", `/v1/containers/${id}/isolation`)
        .then((answer) => answer.json() as Promise<{ deviations: string[] }>)
    ).deviations,
  ).toEqual([])
  await tenant.remove(id)
})
