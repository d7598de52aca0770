/**
 * The one speaker to D1: which tenants, cells, nodes and keys there are. Nothing on a tenant's way to its containers comes
 * here; what is read often is cached by whoever needs it (keyring.ts), and a cell's id never changes once it is known.
 */
import { and, asc, eq, gt, isNull, lt, sql } from "drizzle-orm"
import { drizzle } from "drizzle-orm/d1"
import type { z } from "zod"
import { Policy, Quota } from "../schema/api.ts"
import type { TenantCreate, TenantUpdate } from "../schema/api.ts"
import { Labels } from "../schema/container.ts"
import { AppError } from "../schema/errors.ts"
import { CellId, NodeId, TenantId } from "../schema/ids.ts"
import type { JoinTokenId } from "../schema/ids.ts"
import { cells, idempotencyKeys, joinTokens, nodes, tenants } from "../schema/tables/directory.ts"
import { auditRecords } from "./directory-audit.ts"
import { cellRecords } from "./directory-cells.ts"
import { tokenRecords } from "./directory-tokens.ts"

const DEFAULT_CELL = "default"

type LabelSet = z.infer<typeof Labels>

export interface TenantRow {
  readonly id: TenantId
  readonly name: string
  readonly quota: Quota
  readonly policy: Policy
  /** Rises with each change of quota or policy. */
  readonly revision: number
  readonly createdAtMs: number
}

export interface NodeRow {
  readonly id: NodeId
  readonly cellId: CellId
  readonly hostname: string
  readonly publicKeyX: string
  readonly labels: LabelSet
  readonly enrolledAtMs: number
  readonly forgotten: boolean
}

export interface JoinTokenRow {
  readonly id: string
  readonly labels: LabelSet
  /** Null: the first cell. */
  readonly cellId: CellId | null
  readonly expiresAtMs: number
  /** The node that used it. */
  readonly nodeId: NodeId | null
}

export interface IdempotencyRow {
  readonly fingerprint: string
  readonly createdAtMs: number
  readonly startedAtMs: number
  readonly answer: string | null
}

export type Directory = ReturnType<typeof openDirectory>

export function openDirectory(database: D1Database) {
  const db = drizzle(database)
  let defaultCell: CellId | undefined

  return {
    ...cellRecords(db),
    ...tokenRecords(db),
    audit: auditRecords(db),

    /** @throws when D1 does not answer. */
    async ping(): Promise<void> {
      await db.run(sql`select 1`)
    },

    /** Stores the tenant; the same id again is no error. @throws AppError `name_taken`. */
    async addTenant(id: TenantId, { name, quota, policy }: TenantCreate, nowMs: number): Promise<TenantRow> {
      await db
        .insert(tenants)
        .values({ id, name, quota: JSON.stringify(quota), policy: JSON.stringify(policy), created_at_ms: nowMs })
        .onConflictDoNothing()
      const row = await db.select().from(tenants).where(eq(tenants.name, name)).get()
      if (row?.id !== id) throw new AppError("name_taken", `There is already a tenant named ${name}.`)
      return tenantOf(row)
    },
    /** Merges the change into the row (RFC 7396), in one statement: two operators may change it at once. */
    async updateTenant(id: string, { quota, policy }: TenantUpdate): Promise<TenantRow> {
      const change = {
        quota: sql`json_patch(${tenants.quota}, ${JSON.stringify(quota ?? {})})`,
        policy: sql`json_patch(${tenants.policy}, ${JSON.stringify(policy ?? {})})`,
        revision: sql`${tenants.revision} + 1`,
      }
      const [row] = await db.update(tenants).set(change).where(eq(tenants.id, id)).returning()
      if (!row) throw new AppError("not_found", "There is no tenant with this id.")
      return tenantOf(row)
    },
    async tenantNamed(name: string): Promise<TenantRow | undefined> {
      const row = await db.select().from(tenants).where(eq(tenants.name, name)).get()
      return row && tenantOf(row)
    },
    /** @throws AppError `not_found`. */
    async tenant(id: string): Promise<TenantRow> {
      const row = await db.select().from(tenants).where(eq(tenants.id, id)).get()
      if (!row) throw new AppError("not_found", "There is no tenant with this id.")
      return tenantOf(row)
    },
    async hasTenant(id: TenantId): Promise<boolean> {
      return (await db.select({ id: tenants.id }).from(tenants).where(eq(tenants.id, id)).get()) !== undefined
    },
    async tenants(after: string, limit: number): Promise<TenantRow[]> {
      const rows = await db.select().from(tenants).where(gt(tenants.id, after)).orderBy(asc(tenants.id)).limit(limit)
      return rows.map(tenantOf)
    },

    /** The cell that nodes join and tenants use, made on first use; `id` is what it gets when it is made now. */
    async defaultCell(id: CellId, nowMs: number): Promise<CellId> {
      if (defaultCell) return defaultCell
      await db.insert(cells).values({ id, name: DEFAULT_CELL, created_at_ms: nowMs }).onConflictDoNothing()
      const row = await db.select().from(cells).where(eq(cells.name, DEFAULT_CELL)).get()
      return (defaultCell = CellId.parse(row?.id))
    },

    /** Stores the token by its hash; the same id again, while unused, gets the new hash: its first secret was never shown. */
    async addJoinToken(token: {
      id: JoinTokenId
      hash: string
      labels: LabelSet
      cellId: CellId | null
      createdBy: string
      nowMs: number
      expiresAtMs: number
    }): Promise<void> {
      await db
        .insert(joinTokens)
        .values({
          id: token.id,
          token_hash: token.hash,
          labels: JSON.stringify(token.labels),
          cell_id: token.cellId,
          created_by: token.createdBy,
          created_at_ms: token.nowMs,
          expires_at_ms: token.expiresAtMs,
        })
        .onConflictDoUpdate({ target: joinTokens.id, set: { token_hash: token.hash }, setWhere: isNull(joinTokens.node_id) })
    },
    async joinToken(hash: string): Promise<JoinTokenRow | undefined> {
      const row = await db.select().from(joinTokens).where(eq(joinTokens.token_hash, hash)).get()
      if (!row) return undefined
      const nodeId = row.node_id === null ? null : NodeId.parse(row.node_id)
      const cellId = row.cell_id === null ? null : CellId.parse(row.cell_id)
      return { id: row.id, labels: Labels.parse(JSON.parse(row.labels)), cellId, expiresAtMs: row.expires_at_ms, nodeId }
    },
    /**
     * Uses the join token up and adds the node, both or neither. Which node has the token afterwards is the answer: another
     * caller may have been first. @throws when the public key is already some node's.
     */
    async enroll(
      hash: string,
      node: { id: NodeId; cellId: CellId; hostname: string; x: string; nowMs: number },
    ): Promise<NodeId | null> {
      const usable = and(eq(joinTokens.token_hash, hash), isNull(joinTokens.node_id), gt(joinTokens.expires_at_ms, node.nowMs))
      await db.batch([
        db.update(joinTokens).set({ node_id: node.id }).where(usable),
        db.insert(nodes).select(
          db
            .select({
              id: sql<string>`${node.id}`.as("id"),
              cell_id: sql<string>`${node.cellId}`.as("cell_id"),
              hostname: sql<string>`${node.hostname}`.as("hostname"),
              public_key_x: sql<string>`${node.x}`.as("public_key_x"),
              labels: joinTokens.labels,
              enrolled_at_ms: sql<number>`${node.nowMs}`.as("enrolled_at_ms"),
              forgotten_at_ms: sql<number | null>`null`.as("forgotten_at_ms"),
            })
            .from(joinTokens)
            .where(and(eq(joinTokens.token_hash, hash), eq(joinTokens.node_id, node.id))),
        ),
      ])
      const row = await db.select({ node: joinTokens.node_id }).from(joinTokens).where(eq(joinTokens.token_hash, hash)).get()
      return row?.node ? NodeId.parse(row.node) : null
    },

    async node(id: string): Promise<NodeRow | undefined> {
      const row = await db.select().from(nodes).where(eq(nodes.id, id)).get()
      return row && nodeOf(row)
    },
    async nodeWithKey(x: string): Promise<NodeRow | undefined> {
      const row = await db.select().from(nodes).where(eq(nodes.public_key_x, x)).get()
      return row && nodeOf(row)
    },
    /** Nodes that are not forgotten, by id. */
    async nodes(after: string, limit: number): Promise<NodeRow[]> {
      const wanted = and(gt(nodes.id, after), isNull(nodes.forgotten_at_ms))
      const rows = await db.select().from(nodes).where(wanted).orderBy(asc(nodes.id)).limit(limit)
      return rows.map(nodeOf)
    },
    /** Whether there is such a cell. */
    async hasCell(id: CellId): Promise<boolean> {
      return (await db.select({ id: cells.id }).from(cells).where(eq(cells.id, id)).get()) !== undefined
    },
    /** Which cell its NodeObject says that it is in. */
    async moveNode(id: NodeId, cellId: CellId): Promise<void> {
      await db.update(nodes).set({ cell_id: cellId }).where(eq(nodes.id, id))
    },
    async forgetNode(id: NodeId, nowMs: number): Promise<void> {
      await db
        .update(nodes)
        .set({ forgotten_at_ms: nowMs })
        .where(and(eq(nodes.id, id), isNull(nodes.forgotten_at_ms)))
    },

    /** Claims the key for a call that begins now. `undefined`: claimed; else who has it. Rows older than `oldestMs` go. */
    async claimKey(
      owner: string,
      key: string,
      fingerprint: string,
      nowMs: number,
      oldestMs: number,
    ): Promise<IdempotencyRow | undefined> {
      const row = { owner, key, fingerprint, created_at_ms: nowMs, started_at_ms: nowMs }
      const [, claimed] = await db.batch([
        db.delete(idempotencyKeys).where(lt(idempotencyKeys.created_at_ms, oldestMs)),
        db.insert(idempotencyKeys).values(row).onConflictDoNothing().returning({ key: idempotencyKeys.key }),
      ])
      if (claimed.length > 0) return undefined
      const held = await db.select().from(idempotencyKeys).where(heldBy(owner, key)).get()
      if (!held) throw new AppError("idempotency_in_progress", "The first call with this key has only just failed; try again.")
      return {
        fingerprint: held.fingerprint,
        createdAtMs: held.created_at_ms,
        startedAtMs: held.started_at_ms,
        answer: held.answer,
      }
    },
    /** Takes over from a call that began at `startedAtMs` and died. False when somebody else was faster. */
    async takeOverKey(owner: string, key: string, startedAtMs: number, nowMs: number): Promise<boolean> {
      const rows = await db
        .update(idempotencyKeys)
        .set({ started_at_ms: nowMs })
        .where(and(heldBy(owner, key), isNull(idempotencyKeys.answer), eq(idempotencyKeys.started_at_ms, startedAtMs)))
        .returning({ key: idempotencyKeys.key })
      return rows.length > 0
    },
    async answerKey(owner: string, key: string, answer: string): Promise<void> {
      await db.update(idempotencyKeys).set({ answer }).where(heldBy(owner, key))
    },
    /** The call was refused and changed nothing: the key may be used again. */
    async releaseKey(owner: string, key: string): Promise<void> {
      await db.delete(idempotencyKeys).where(and(heldBy(owner, key), isNull(idempotencyKeys.answer)))
    },
  }
}

const heldBy = (owner: string, key: string) => and(eq(idempotencyKeys.owner, owner), eq(idempotencyKeys.key, key))

const tenantOf = (row: typeof tenants.$inferSelect): TenantRow => ({
  id: TenantId.parse(row.id),
  name: row.name,
  quota: Quota.parse(JSON.parse(row.quota)),
  policy: Policy.parse(JSON.parse(row.policy)),
  revision: row.revision,
  createdAtMs: row.created_at_ms,
})

const nodeOf = (row: typeof nodes.$inferSelect): NodeRow => ({
  id: NodeId.parse(row.id),
  cellId: CellId.parse(row.cell_id),
  hostname: row.hostname,
  publicKeyX: row.public_key_x,
  labels: Labels.parse(JSON.parse(row.labels)),
  enrolledAtMs: row.enrolled_at_ms,
  forgotten: row.forgotten_at_ms !== null,
})
