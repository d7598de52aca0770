/** What anyone may read of the platform: that it lives, and the keys that its tokens are signed with. */
import { z } from "zod"
import { AppError } from "../../schema/errors.ts"
import { JWKS_MAX_AGE_SECONDS } from "../keyring.ts"
import { operation } from "../operation.ts"

const Health = z.object({ status: z.literal("ok") }).meta({ id: "Health" })

const Jwks = z
  .object({
    keys: z.array(
      z.object({
        kty: z.literal("OKP"),
        crv: z.literal("Ed25519"),
        alg: z.literal("EdDSA"),
        use: z.literal("sig"),
        kid: z.string(),
        x: z.string(),
      }),
    ),
  })
  .meta({ id: "Jwks" })

export const health = operation({
  id: "getHealth",
  method: "get",
  path: "/healthz",
  tag: "Platform",
  access: "public",
  summary: "Is the platform up",
  description: "200 when the worker has its signing key and its directory answers.",
  answer: { status: 200, description: "It is.", schema: Health, example: { status: "ok" } },
  errors: [],
  example: {},
  async handle(c) {
    const { directory, keyring } = c.var.services
    try {
      keyring.signingKey()
      await directory.ping()
    } catch (cause) {
      console.error("not healthy", cause)
      throw new AppError("unavailable", "The platform is not ready: its directory or its signing key is missing.", { cause })
    }
    return { status: 200, body: { status: "ok" as const } }
  },
})

export const jwks = operation({
  id: "getJwks",
  method: "get",
  path: "/.well-known/jwks.json",
  tag: "Platform",
  access: "public",
  summary: "Public keys of the platform's tokens",
  description:
    "A JSON Web Key Set (RFC 7517). After a rotation the old key stays until the last token that it signed has expired.",
  answer: {
    status: 200,
    description: "The keys.",
    schema: Jwks,
    example: {
      keys: [
        {
          kty: "OKP",
          crv: "Ed25519",
          alg: "EdDSA",
          use: "sig",
          kid: "2026-11",
          x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        },
      ],
    },
  },
  errors: [],
  example: {},
  async handle(c) {
    const keys = (await c.var.services.keyring.keys()).map(({ kid, x }) => {
      return { kty: "OKP" as const, crv: "Ed25519" as const, alg: "EdDSA" as const, use: "sig" as const, kid, x }
    })
    return { status: 200, body: { keys }, headers: { "cache-control": `public, max-age=${JWKS_MAX_AGE_SECONDS}` } }
  },
})
