/** The endpoints that OAuth's RFCs describe. Their names, forms and errors are the RFCs'. */
import { z } from "zod"
import { AppError, asAppError } from "../../schema/errors.ts"
import { OPERATOR_SCOPE, TENANT_SCOPES } from "../../schema/tokens.ts"
import { DPOP_ALGORITHMS } from "../dpop.ts"
import type { AppContext, Principal } from "../env.ts"
import { ACCESS_TOKEN, exchange, ExchangeAnswer, ExchangeForm, TOKEN_EXCHANGE } from "../exchange.ts"
import { runOAuth } from "../oauth.ts"
import { callerOf, operation } from "../operation.ts"

const exchangeToken = operation({
  id: "exchangeToken",
  method: "post",
  path: "/oauth/token",
  tag: "Tokens",
  access: "public",
  protocol: "oauth",
  summary: "Exchange a token",
  description:
    "RFC 8693. A token of this platform becomes a narrower one: fewer scopes, fewer containers, less time; revoking it revokes " +
    "what came of it. A token of an issuer that one of your trusts names becomes a short-lived token of this platform.",
  body: ExchangeForm,
  answer: {
    status: 200,
    description: "The new token.",
    schema: ExchangeAnswer,
    example: {
      access_token: "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.…",
      issued_token_type: ACCESS_TOKEN,
      token_type: "Bearer",
      expires_in: 900,
      scope: "containers:read",
    },
  },
  errors: [],
  example: {
    body: {
      grant_type: TOKEN_EXCHANGE,
      subject_token: "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.…",
      subject_token_type: ACCESS_TOKEN,
      scope: "containers:read",
      expires_in: "900",
    },
  },
  handle: async (c) => runOAuth(c, ExchangeForm, async (form) => exchange(c, form)),
})

/** `token_type_hint` could only speed up a search that there is none of. */
const TokenForm = z.object({ token: z.string(), token_type_hint: z.string().optional() })

const revokeAnyToken = operation({
  id: "revokeAnyToken",
  method: "post",
  path: "/oauth/revoke",
  tag: "Tokens",
  access: "public",
  protocol: "oauth",
  summary: "Revoke a token that you hold",
  description: "RFC 7009. It is refused from then on, and so is all that was made from it. Of one that is not valid: nothing.",
  body: TokenForm.meta({ id: "TokenRevocation" }),
  answer: { status: 200, description: "It is not valid any more, if it ever was.", schema: z.object({}), example: {} },
  errors: [],
  example: { body: { token: "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.…" } },
  handle: async (c) =>
    runOAuth(c, TokenForm, async ({ token }) => {
      const principal = await verified(c, token)
      if (principal) await revoke(c, principal)
      return {}
    }),
})

async function revoke(c: AppContext, principal: Principal): Promise<void> {
  const { clock, directory, peers } = c.var.services
  const { tenant, token, expiresAtMs } = principal
  if (tenant === null) return directory.revokeToken(token, expiresAtMs, clock.now())
  const caller = callerOf(c, principal)
  try {
    await peers.tenant(tenant).revokeToken(caller, null)
    await peers.tenant(tenant).record(caller, token, "ok")
  } catch (error) {
    // A token may outlive its tenant; then it opens nothing already.
    if (asAppError(error)?.code !== "not_found") throw error
  }
}

/** Undefined for what is not, or no longer, a token of this platform. */
async function verified(c: AppContext, token: string): Promise<Principal | undefined> {
  try {
    return await c.var.services.keyring.verify(token)
  } catch (error) {
    if (error instanceof AppError) return undefined
    throw error
  }
}

const Introspection = z
  .object({
    active: z.boolean(),
    iss: z.string().optional(),
    sub: z.string().optional(),
    client_id: z.string().optional(),
    jti: z.string().optional(),
    exp: z.int().optional(),
    scope: z.string().optional(),
    token_type: z.enum(["Bearer", "DPoP"]).optional(),
    cnf: z.object({ jkt: z.string() }).optional().meta({ description: "The key that it is bound to (RFC 9449)." }),
    ten: z.string().optional().meta({ description: "The tenant." }),
    chain: z.array(z.string()).optional().meta({ description: "What it was made from, the nearest first." }),
    act: z.unknown().optional(),
    authorization_details: z.array(z.unknown()).optional(),
  })
  .meta({ id: "Introspection" })

const introspectToken = operation({
  id: "introspectToken",
  method: "post",
  path: "/oauth/introspect",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  protocol: "oauth",
  summary: "Look into a token",
  description:
    "RFC 7662. What a token of this platform is worth now; of any other, and of a revoked one, only that it is not active.",
  body: TokenForm.meta({ id: "TokenIntrospection" }),
  answer: { status: 200, description: "What it is worth.", schema: Introspection, example: { active: false } },
  errors: [],
  example: { body: { token: "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.…" } },
  handle: async (c) =>
    runOAuth(c, TokenForm, async ({ token }): Promise<z.infer<typeof Introspection>> => {
      const principal = await verified(c, token)
      if (!principal || !(await stands(c, principal))) return { active: false }
      const { subject, tenant, token: jti, chain, scopes, details, act, jkt, expiresAtMs } = principal
      return {
        active: true,
        iss: c.env.ISSUER,
        sub: subject,
        client_id: subject,
        jti,
        exp: Math.floor(expiresAtMs / 1000),
        scope: [...scopes].join(" "),
        token_type: jkt === null ? "Bearer" : "DPoP",
        ...(jkt !== null && { cnf: { jkt } }),
        ...(tenant && { ten: tenant }),
        ...(chain.length > 0 && { chain: [...chain] }),
        ...(act && { act }),
        ...(details && { authorization_details: details }),
      }
    }),
})

async function stands(c: AppContext, principal: Principal): Promise<boolean> {
  const { directory, peers } = c.var.services
  const { tenant, token, chain } = principal
  if (tenant === null) return !(await directory.anyRevoked([token, ...chain]))
  return peers.tenant(tenant).stands(callerOf(c, principal))
}

const Metadata = z
  .object({
    issuer: z.url(),
    token_endpoint: z.url(),
    revocation_endpoint: z.url(),
    introspection_endpoint: z.url(),
    jwks_uri: z.url(),
    service_documentation: z.url(),
    scopes_supported: z.array(z.string()),
    response_types_supported: z.array(z.string()),
    grant_types_supported: z.array(z.string()),
    token_endpoint_auth_methods_supported: z.array(z.string()),
    revocation_endpoint_auth_methods_supported: z.array(z.string()),
    authorization_details_types_supported: z.array(z.string()),
    dpop_signing_alg_values_supported: z.array(z.string()),
  })
  .meta({ id: "AuthorizationServer" })

const metadataOf = (issuer: string, offered: ReadonlySet<string>): z.infer<typeof Metadata> => ({
  issuer,
  token_endpoint: `${issuer}/oauth/token`,
  revocation_endpoint: `${issuer}/oauth/revoke`,
  introspection_endpoint: `${issuer}/oauth/introspect`,
  jwks_uri: `${issuer}/.well-known/jwks.json`,
  service_documentation: `${issuer}/docs`,
  scopes_supported: TENANT_SCOPES.filter((scope) => offered.has(scope)),
  response_types_supported: [],
  grant_types_supported: [TOKEN_EXCHANGE],
  token_endpoint_auth_methods_supported: ["none"],
  revocation_endpoint_auth_methods_supported: ["none"],
  authorization_details_types_supported: ["container"],
  dpop_signing_alg_values_supported: DPOP_ALGORITHMS,
})

const METADATA_MAX_AGE_SECONDS = 300

const authorizationServer = operation({
  id: "getAuthorizationServer",
  method: "get",
  path: "/.well-known/oauth-authorization-server",
  tag: "Platform",
  access: "public",
  summary: "Where tokens are got",
  description: "The authorization server's metadata (RFC 8414).",
  answer: {
    status: 200,
    description: "The metadata.",
    schema: Metadata,
    example: metadataOf("https://berth.example", new Set(["containers:read", "containers:create"])),
  },
  errors: [],
  example: {},
  handle: async (c) => ({
    status: 200,
    body: metadataOf(c.env.ISSUER, c.var.offered),
    headers: { "cache-control": `public, max-age=${METADATA_MAX_AGE_SECONDS}` },
  }),
})

const Provider = z
  .object({
    issuer: z.url(),
    jwks_uri: z.url(),
    response_types_supported: z.array(z.string()),
    subject_types_supported: z.array(z.string()),
    id_token_signing_alg_values_supported: z.array(z.string()),
    claims_supported: z.array(z.string()),
  })
  .meta({ id: "OpenIdProvider" })

const providerOf = (issuer: string): z.infer<typeof Provider> => ({
  issuer,
  jwks_uri: `${issuer}/.well-known/jwks.json`,
  response_types_supported: ["id_token"],
  subject_types_supported: ["public"],
  id_token_signing_alg_values_supported: ["EdDSA"],
  claims_supported: IDENTITY_CLAIMS,
})
const IDENTITY_CLAIMS = [
  "iss", "sub", "aud", "iat", "exp", "tenant_id", "tenant_name", "container_id", "container_name", "run_id", "image", "image_digest",
  "labels",
] // prettier-ignore

const openIdProvider = operation({
  id: "getOpenIdProvider",
  method: "get",
  path: "/.well-known/openid-configuration",
  tag: "Platform",
  access: "public",
  summary: "How to verify a container's identity",
  description: "OpenID Connect Discovery 1.0, for whoever is shown a token that a container got of its own.",
  answer: { status: 200, description: "The metadata.", schema: Provider, example: providerOf("https://berth.example") },
  errors: [],
  example: {},
  handle: async (c) => ({
    status: 200,
    body: providerOf(c.env.ISSUER),
    headers: { "cache-control": `public, max-age=${METADATA_MAX_AGE_SECONDS}` },
  }),
})

export const oauthOperations = [exchangeToken, revokeAnyToken, introspectToken, authorizationServer, openIdProvider]
