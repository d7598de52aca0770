/**
 * The directory, one D1 database for the platform: what every part must find before it knows which object to ask. Read
 * often, written rarely, nothing hot. Its one speaker, and so the one writer of every column, is worker/directory.ts.
 */
import { sql } from "drizzle-orm"
import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core"

export const tenants = sqliteTable(
  "tenants",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull().unique(),
    /** JSON of `Quota`; the TenantObject holds the copy that counts. */
    quota: text("quota").notNull(),
    /** JSON of `Policy`, likewise. */
    policy: text("policy").notNull().default("{}"),
    /** Rises with each change of quota, policy or the list of cells, so that the TenantObject can tell which is the newer. */
    revision: integer("revision").notNull().default(1),
    /** What the TenantObject is known to have heard; less than `revision`: it has yet to hear. */
    told_revision: integer("told_revision").notNull().default(0),
    created_at_ms: integer("created_at_ms").notNull(),
  },
  (table) => [
    index("tenants_untold")
      .on(table.id)
      .where(sql`told_revision < revision`),
  ],
)

export const cells = sqliteTable("cells", {
  id: text("id").primaryKey(),
  name: text("name").notNull().unique(),
  /** JSON of `Weights`; the CellObject holds the copy that counts. */
  weights: text("weights").notNull().default("{}"),
  revision: integer("revision").notNull().default(1),
  created_at_ms: integer("created_at_ms").notNull(),
})

export const nodes = sqliteTable("nodes", {
  id: text("id").primaryKey(),
  cell_id: text("cell_id")
    .notNull()
    .references(() => cells.id),
  hostname: text("hostname").notNull(),
  /** `x` of the node's Ed25519 key (RFC 8037). The row outlives `forget`, so that a forgotten key can never come back. */
  public_key_x: text("public_key_x").notNull().unique(),
  /** JSON of the labels that the operator gave with the join token; they outrank the node's own word. */
  labels: text("labels").notNull(),
  enrolled_at_ms: integer("enrolled_at_ms").notNull(),
  forgotten_at_ms: integer("forgotten_at_ms"),
})

export const joinTokens = sqliteTable("join_tokens", {
  id: text("id").primaryKey(),
  /** SHA-256 of the token, hex. The token itself is shown once and kept nowhere. */
  token_hash: text("token_hash").notNull().unique(),
  labels: text("labels").notNull(),
  /** Null: the first cell. */
  cell_id: text("cell_id"),
  created_by: text("created_by").notNull(),
  created_at_ms: integer("created_at_ms").notNull(),
  expires_at_ms: integer("expires_at_ms").notNull(),
  /** The node that used it; null while it can be used. */
  node_id: text("node_id"),
})

/**
 * Keys that sign the platform's tokens, or signed some that are still valid. The private half of one that was made here is kept
 * sealed under SIGNING_KEY, and only until another took over.
 */
export const signingKeys = sqliteTable("signing_keys", {
  kid: text("kid").primaryKey(),
  x: text("x").notNull(),
  /** When the last token that it signed expires. */
  last_expiry_ms: integer("last_expiry_ms").notNull(),
  /** Null: of SIGNING_KEY itself, or past signing. */
  sealed: text("sealed"),
  /** It is published before it signs, so that nobody meets a token whose key they have not heard of. */
  signs_from_ms: integer("signs_from_ms"),
  /** An operator took it out: nothing that it signed is valid, and it is never taken up again. */
  distrusted_at_ms: integer("distrusted_at_ms"),
})

/** Issuers whose tokens a tenant takes in exchange for its own. In the directory because an exchange names nothing but the trust. */
export const trusts = sqliteTable(
  "trusts",
  {
    id: text("id").primaryKey(),
    tenant_id: text("tenant_id").notNull(),
    name: text("name").notNull(),
    issuer: text("issuer").notNull(),
    audience: text("audience").notNull(),
    /** JSON of `ClaimCondition[]`. */
    conditions: text("conditions").notNull(),
    /** JSON of scopes, and of `AuthorizationDetails` or null: what its tokens are worth. */
    scopes: text("scopes").notNull(),
    details: text("details").notNull(),
    max_lifetime_seconds: integer("max_lifetime_seconds").notNull(),
    created_at_ms: integer("created_at_ms").notNull(),
  },
  (table) => [index("trusts_tenant").on(table.tenant_id, table.id)],
)

/** Operators' tokens that were revoked, until they would have expired. Those of a tenant are its TenantObject's. */
export const revokedTokens = sqliteTable("revoked_tokens", {
  id: text("id").primaryKey(),
  until_ms: integer("until_ms").notNull(),
})

/** First answers of operators' and nodes' mutating calls, and of tenants'; those about containers are kept by the TenantObject. */
export const idempotencyKeys = sqliteTable(
  "idempotency_keys",
  {
    /** Whose key it is: `op:<subject>`, `<tenant's id>:<subject>` or the id of a join token. */
    owner: text("owner").notNull(),
    key: text("key").notNull(),
    fingerprint: text("fingerprint").notNull(),
    created_at_ms: integer("created_at_ms").notNull(),
    /** When the call that now works on it began; a later one may take over from a call that died. */
    started_at_ms: integer("started_at_ms").notNull(),
    /** The answer, sealed because some answers hold a secret; null while the call runs. */
    answer: text("answer"),
  },
  (table) => [primaryKey({ columns: [table.owner, table.key] }), index("idempotency_keys_created_at").on(table.created_at_ms)],
)

/** Operators' audit log, as a tenant's is kept by its TenantObject. */
export const auditEntries = sqliteTable("audit_entries", {
  seq: integer("seq").primaryKey(),
  time_ms: integer("time_ms").notNull(),
  subject: text("subject").notNull(),
  token_id: text("token_id").notNull(),
  request_id: text("request_id").notNull(),
  operation: text("operation").notNull(),
  target: text("target"),
  result: text("result").notNull(),
  previous: text("previous").notNull(),
  hash: text("hash").notNull(),
})
