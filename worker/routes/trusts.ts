/** Trusts: whose tokens a tenant takes in exchange for its own, so that nothing outside has to hold a secret. */
import { z } from "zod"
import { page, PageQuery } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { TrustId } from "../../schema/ids.ts"
import { Trust, TrustCreate } from "../../schema/tokens.ts"
import { pageOf, parseCursor } from "../cursors.ts"
import type { TrustRow } from "../directory-tokens.ts"
import { trust, TRUST_ID } from "../examples.ts"
import { refusalOf, worthOf } from "../issuing.ts"
import { narrowed } from "../narrowing.ts"
import { callerOf, operation, tenantIdOf, tenantOf } from "../operation.ts"
import { invalid } from "../validation.ts"

/** A tenant's pipelines share a few; the count bounds what the directory stores for one. */
const MAX_TRUSTS = 100
/** A token that is being given while its trust is revoked expires within this, beside its lifetime. */
const REVOCATION_MARGIN_MS = 60_000

const TrustPath = z.object({ id: TrustId.meta({ examples: [TRUST_ID] }) })

const viewOf = (row: TrustRow): Trust => ({
  id: row.id,
  name: row.name,
  issuer: row.issuer,
  audience: row.audience,
  conditions: [...row.conditions],
  scopes: [...row.scopes],
  authorization_details: row.details,
  max_lifetime_seconds: row.maxLifetimeSeconds,
  created_at: new Date(row.createdAtMs).toISOString(),
})

const createTrust = operation({
  id: "createTrust",
  method: "post",
  path: "/v1/trusts",
  tag: "Tokens",
  access: "tenant:admin",
  idempotency: "directory",
  summary: "Trust an issuer",
  description:
    "From now on a token of this OpenID Connect issuer whose claims meet all conditions can be exchanged at `/oauth/token` for a " +
    "token with these scopes. Name conditions that only yours can meet: an issuer such as GitHub Actions signs for everybody.",
  body: TrustCreate,
  answer: {
    status: 201,
    description: "The trust. Its id is the `client_id` of the exchange.",
    schema: Trust,
    example: trust,
    headers: { Location: "Where to read the trust." },
  },
  errors: ["quota_exceeded"],
  example: {
    body: {
      name: "deploy",
      issuer: "https://token.actions.githubusercontent.com",
      audience: "https://berth.example",
      conditions: [
        { claim: "repository", equals: ["acme/app"] },
        { claim: "ref", equals: ["refs/heads/main"] },
      ],
      scopes: ["containers:read", "containers:create"],
      authorization_details: [{ type: "container", name_prefix: "web-" }],
      max_lifetime_seconds: 900,
    },
  },
  async handle(c, { body, ids }) {
    const { clock, directory, outbound } = c.var.services
    const refusal = outbound.refused(body.issuer)
    if (refusal !== undefined) throw invalid([{ pointer: "/issuer", message: refusal }])
    const nowMs = clock.now()
    const own = worthOf(c.var.principal)
    const asked = { scopes: body.scopes, details: body.authorization_details, lifetimeSeconds: body.max_lifetime_seconds }
    const made = narrowed(own, asked, c.var.offered, nowMs)
    if (!made.ok) throw refusalOf(made.error)
    const tenantId = tenantIdOf(c)
    if ((await directory.trustCount(tenantId)) >= MAX_TRUSTS)
      throw new AppError("quota_exceeded", `There are ${MAX_TRUSTS} trusts; that is the most.`)
    const row: TrustRow = {
      id: ids.make("tru"),
      tenantId,
      name: body.name,
      issuer: body.issuer,
      audience: body.audience ?? c.env.ISSUER,
      conditions: body.conditions,
      scopes: made.value.scopes,
      details: made.value.details,
      maxLifetimeSeconds: body.max_lifetime_seconds,
      createdAtMs: nowMs,
    }
    await directory.addTrust(row)
    return { status: 201, body: viewOf(row), headers: { location: `/v1/trusts/${row.id}` } }
  },
})

const listTrusts = operation({
  id: "listTrusts",
  method: "get",
  path: "/v1/trusts",
  tag: "Tokens",
  access: "tenant:admin",
  summary: "List trusts",
  description: "Oldest first.",
  query: PageQuery,
  answer: {
    status: 200,
    description: "One page.",
    schema: page(Trust, "TrustPage"),
    example: { items: [trust], next_cursor: null },
  },
  errors: [],
  example: { query: "limit=50" },
  async handle(c, { query }) {
    const rows = await c.var.services.directory.trusts(tenantIdOf(c), parseCursor(query.cursor), query.limit + 1)
    return { status: 200, body: pageOf(rows, query.limit, rows.map(viewOf)) }
  },
})

const getTrust = operation({
  id: "getTrust",
  method: "get",
  path: "/v1/trusts/{id}",
  tag: "Tokens",
  access: "tenant:admin",
  summary: "Read a trust",
  description: "Whose tokens it takes, and what they become worth.",
  params: TrustPath,
  answer: { status: 200, description: "The trust.", schema: Trust, example: trust },
  errors: [],
  example: { params: { id: TRUST_ID } },
  handle: async (c, { params }) => ({
    status: 200,
    body: viewOf(await c.var.services.directory.trustOf(tenantIdOf(c), params.id)),
  }),
})

const removeTrust = operation({
  id: "removeTrust",
  method: "delete",
  path: "/v1/trusts/{id}",
  tag: "Tokens",
  access: "tenant:admin",
  idempotency: "directory",
  summary: "End a trust",
  description: "No token is given for it any more, and all that were are revoked, with what was made from them.",
  params: TrustPath,
  answer: { status: 204, description: "It is gone." },
  errors: [],
  example: { params: { id: TRUST_ID } },
  async handle(c, { params }) {
    const { clock, directory } = c.var.services
    const row = await directory.trustOf(tenantIdOf(c), params.id)
    // First what it gave: while the row is there, a call that died half-way can be repeated.
    const untilMs = clock.now() + row.maxLifetimeSeconds * 1000 + REVOCATION_MARGIN_MS
    await tenantOf(c).revokeTrust(callerOf(c), row.id, untilMs)
    await directory.removeTrust(row.tenantId, row.id)
    return { status: 204, body: null }
  },
})

export const trustOperations = [createTrust, listTrusts, getTrust, removeTrust]
