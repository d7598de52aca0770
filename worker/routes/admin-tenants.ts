/** Tenants, as operators make and find them. */
import { z } from "zod"
import { OPERATOR_SCOPE, page, PageQuery, Tenant, TenantCreate, TENANT_SCOPES, TenantUpdate } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { TenantId } from "../../schema/ids.ts"
import { MintedToken, TenantTokenCreate } from "../../schema/tokens.ts"
import { pageOf, parseCursor } from "../cursors.ts"
import type { TenantRow } from "../directory.ts"
import { tenant, TENANT_ID, TOKEN_ID } from "../examples.ts"
import { issue, refusalOf } from "../issuing.ts"
import { narrowed } from "../narrowing.ts"
import { MERGE_PATCH_MEDIA, operation } from "../operation.ts"
import { tellTenant } from "../tenant-settings.ts"

const TenantPath = z.object({ id: TenantId.meta({ examples: [TENANT_ID] }) })

const viewOf = (row: TenantRow): Tenant => ({
  id: row.id,
  name: row.name,
  quota: row.quota,
  policy: row.policy,
  created_at: new Date(row.createdAtMs).toISOString(),
})

export const createTenant = operation({
  id: "createTenant",
  method: "post",
  path: "/v1/admin/tenants",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Create a tenant",
  description: "A tenant owns containers and is the boundary between them and all others. Its name is unique.",
  body: TenantCreate,
  answer: {
    status: 201,
    description: "The tenant.",
    schema: Tenant,
    example: tenant,
    headers: { Location: "Where to read the tenant." },
  },
  errors: ["name_taken"],
  example: {
    body: { name: "acme", quota: { containers: 100, cpus: 32, memory_bytes: 68_719_476_736 }, policy: { on_deviation: "stop" } },
  },
  async handle(c, { body, ids }) {
    const { clock, directory, peers } = c.var.services
    const id = ids.make("ten")
    const taken = await directory.tenantNamed(body.name)
    if (taken && taken.id !== id) throw new AppError("name_taken", `There is already a tenant named ${body.name}.`)
    const cell = await directory.defaultCell(ids.make("cel"), clock.now())
    // The object first: a tenant that the directory knows can always be used, and an object that nobody knows costs nothing.
    await peers.tenant(id).configure({ tenant_id: id, ...body, revision: 0, cells: [cell] })
    const row = await directory.addTenant(id, body, clock.now())
    // Then what the directory has, all cells of this moment among it.
    await tellTenant(c.var.services, id)
    return { status: 201, body: viewOf(row), headers: { location: `/v1/admin/tenants/${id}` } }
  },
})

export const listTenants = operation({
  id: "listTenants",
  method: "get",
  path: "/v1/admin/tenants",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "List tenants",
  description: "Oldest first.",
  query: PageQuery,
  answer: {
    status: 200,
    description: "One page.",
    schema: page(Tenant, "TenantPage"),
    example: { items: [tenant], next_cursor: null },
  },
  errors: [],
  example: { query: "limit=50" },
  async handle(c, { query }) {
    const rows = await c.var.services.directory.tenants(parseCursor(query.cursor), query.limit + 1)
    return { status: 200, body: pageOf(rows, query.limit, rows.map(viewOf)) }
  },
})

export const getTenant = operation({
  id: "getTenant",
  method: "get",
  path: "/v1/admin/tenants/{id}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Read a tenant",
  description: "Its name, its quota and the policy for it.",
  params: TenantPath,
  answer: { status: 200, description: "The tenant.", schema: Tenant, example: tenant },
  errors: ["not_found"],
  example: { params: { id: TENANT_ID } },
  handle: async (c, { params }) => ({ status: 200, body: viewOf(await c.var.services.directory.tenant(params.id)) }),
})

export const updateTenant = operation({
  id: "updateTenant",
  method: "patch",
  path: "/v1/admin/tenants/{id}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Change a tenant",
  description:
    "A JSON Merge Patch (RFC 7396) of its quota and the policy for it: what is left out stays. A new policy holds for runs that " +
    "are placed from then on; live ones keep the policy under which they were placed. A lower quota ends nothing that runs.",
  params: TenantPath,
  body: TenantUpdate,
  bodyMedia: [MERGE_PATCH_MEDIA],
  answer: { status: 200, description: "The tenant, as it is now.", schema: Tenant, example: tenant },
  errors: ["not_found"],
  example: { params: { id: TENANT_ID }, body: { policy: { on_deviation: "stop" } } },
  async handle(c, { params, body }) {
    const row = await c.var.services.directory.updateTenant(params.id, body)
    // If this call fails here, the row is ahead of the object; the caller hears so, and it is told later or by a repeat.
    await tellTenant(c.var.services, row.id)
    return { status: 200, body: viewOf(row) }
  },
})

export const mintTenantToken = operation({
  id: "mintTenantToken",
  method: "post",
  path: "/v1/admin/tenants/{id}/tokens",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Mint a tenant's token",
  description: "An access token (RFC 9068) for this tenant with these scopes. It is shown once and works until it expires.",
  params: TenantPath,
  body: TenantTokenCreate,
  answer: {
    status: 201,
    description: "The token.",
    schema: MintedToken,
    example: {
      id: TOKEN_ID,
      access_token: "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.…",
      token_type: "Bearer",
      expires_at: "2026-11-24T18:30:00.000Z",
      scope: "containers:read logs:read",
      authorization_details: null,
    },
  },
  errors: ["not_found", "quota_exceeded"],
  example: {
    params: { id: TENANT_ID },
    body: { subject: "ci", scopes: ["containers:read", "logs:read"], expires_in_seconds: 86_400 },
  },
  async handle(c, { params, body, ids }) {
    const { clock, directory } = c.var.services
    const row = await directory.tenant(params.id)
    const nowMs = clock.now()
    const lifetimeSeconds = body.expires_in_seconds
    const all = { scopes: TENANT_SCOPES, details: null, expiresAtMs: nowMs + lifetimeSeconds * 1000 }
    const made = narrowed(all, { scopes: body.scopes, lifetimeSeconds }, c.var.offered, nowMs)
    if (!made.ok) throw refusalOf(made.error)
    const { subject } = body
    const it = { id: ids.make("tok"), tenant: row.id, subject, name: subject, worth: made.value, chain: [], jkt: null }
    return { status: 201, body: await issue(c, null, it) }
  },
})
