/** Tokens for automation: made from the caller's own, and worth no more. */
import { z } from "zod"
import { page, PageQuery } from "../../schema/api.ts"
import { TokenId } from "../../schema/ids.ts"
import { DEFAULT_TOKEN_SECONDS, MintedToken, Token, TokenCreate } from "../../schema/tokens.ts"
import { formatCursor, parseCursor } from "../cursors.ts"
import { token, TOKEN_ID } from "../examples.ts"
import { chainFrom, issue, refusalOf, worthOf } from "../issuing.ts"
import { narrowed } from "../narrowing.ts"
import { callerOf, operation, tenantIdOf, tenantOf } from "../operation.ts"
import { invalid } from "../validation.ts"

const TokenPath = z.object({ id: TokenId.meta({ examples: [TOKEN_ID] }) })

const mintToken = operation({
  id: "mintToken",
  method: "post",
  path: "/v1/tokens",
  tag: "Tokens",
  access: "tokens:mint",
  idempotency: "directory",
  summary: "Mint a token",
  description:
    "An access token (RFC 9068) for a machine: some of your own token's scopes, for some of its containers " +
    "(`authorization_details`, RFC 9396), until it expires at the latest. Revoking yours revokes it too.",
  body: TokenCreate,
  answer: {
    status: 201,
    description: "The token; it is shown only here.",
    schema: MintedToken,
    example: {
      id: TOKEN_ID,
      access_token: "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.…",
      token_type: "Bearer",
      expires_at: "2026-11-24T18:30:00.000Z",
      scope: "containers:read containers:create",
      authorization_details: [{ type: "container", name_prefix: "web-", images: ["registry.example/team/app"] }],
    },
    headers: { Location: "Where to read about the token." },
  },
  errors: ["quota_exceeded"],
  example: {
    body: {
      name: "deploy-web",
      scopes: ["containers:read", "containers:create"],
      authorization_details: [{ type: "container", name_prefix: "web-", images: ["registry.example/team/app"] }],
      expires_in_seconds: 3600,
    },
  },
  async handle(c, { body, ids }) {
    const nowMs = c.var.services.clock.now()
    const own = worthOf(c.var.principal)
    const left = Math.floor((own.expiresAtMs - nowMs) / 1000)
    if (body.expires_in_seconds !== undefined && body.expires_in_seconds > left)
      throw invalid([{ pointer: "/expires_in_seconds", message: `must be at most ${left}: then your own token expires` }])
    const lifetimeSeconds = body.expires_in_seconds ?? DEFAULT_TOKEN_SECONDS
    const asked = { scopes: body.scopes, details: body.authorization_details, lifetimeSeconds }
    const made = narrowed(own, asked, c.var.offered, nowMs)
    if (!made.ok) throw refusalOf(made.error)
    const { name, dpop_jkt: jkt = c.var.principal.jkt } = body
    const chain = chainFrom(c.var.principal)
    const it = { id: ids.make("tok"), tenant: tenantIdOf(c), subject: name, name, worth: made.value, chain, jkt }
    const minted = await issue(c, callerOf(c), it)
    return { status: 201, body: minted, headers: { location: `/v1/tokens/${minted.id}` } }
  },
})

const listTokens = operation({
  id: "listTokens",
  method: "get",
  path: "/v1/tokens",
  tag: "Tokens",
  access: "tokens:mint",
  admission: "by-its-call",
  summary: "List tokens",
  description:
    "Oldest first: your own token and those made from it; with the scope `tenant:admin` all of the tenant. Expired ones are kept " +
    "for a week.",
  query: PageQuery,
  answer: {
    status: 200,
    description: "One page.",
    schema: page(Token, "TokenPage"),
    example: { items: [token], next_cursor: null },
  },
  errors: [],
  example: { query: "limit=50" },
  async handle(c, { query }) {
    const request = { cursor: parseCursor(query.cursor), limit: query.limit }
    const { items, next_cursor } = await tenantOf(c).listTokens(callerOf(c), request)
    return { status: 200, body: { items, next_cursor: next_cursor === null ? null : formatCursor(next_cursor) } }
  },
})

const getToken = operation({
  id: "getToken",
  method: "get",
  path: "/v1/tokens/{id}",
  tag: "Tokens",
  access: "tokens:mint",
  admission: "by-its-call",
  summary: "Read about a token",
  description: "What it may do, until when, whether it was revoked and when it was last used. The token itself is kept nowhere.",
  params: TokenPath,
  answer: { status: 200, description: "The token.", schema: Token, example: token },
  errors: [],
  example: { params: { id: TOKEN_ID } },
  handle: async (c, { params }) => ({ status: 200, body: await tenantOf(c).getToken(callerOf(c), params.id) }),
})

const revokeToken = operation({
  id: "revokeToken",
  method: "delete",
  path: "/v1/tokens/{id}",
  tag: "Tokens",
  access: "tokens:mint",
  idempotency: "directory",
  summary: "Revoke a token",
  description: "It is refused from the next call on, and so is every token made from it.",
  params: TokenPath,
  answer: { status: 204, description: "It is revoked. Doing it again changes nothing." },
  errors: [],
  example: { params: { id: TOKEN_ID } },
  async handle(c, { params }) {
    await tenantOf(c).revokeToken(callerOf(c), params.id)
    return { status: 204, body: null }
  },
})

export const tokenOperations = [mintToken, listTokens, getToken, revokeToken]
