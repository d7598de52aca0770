/**
 * The directory's cells, and what tenants' objects have yet to hear: each holds the list of cells, its quota and its policy, and
 * a row whose `told_revision` lags behind is one whose object may hold older ones. Part of directory.ts.
 */
import { and, asc, eq, gt, lt, sql } from "drizzle-orm"
import type { DrizzleD1Database } from "drizzle-orm/d1"
import type { TenantConfig } from "../durable/shared/rpc.ts"
import type { CellCreate, CellUpdate } from "../schema/api.ts"
import { Policy, Quota, Weights } from "../schema/api.ts"
import { AppError } from "../schema/errors.ts"
import { CellId, TenantId } from "../schema/ids.ts"
import { cells, tenants } from "../schema/tables/directory.ts"

export interface CellRow {
  readonly id: CellId
  readonly name: string
  readonly weights: Weights
  /** Rises with each change of the weights. */
  readonly revision: number
  readonly createdAtMs: number
}

export function cellRecords(db: DrizzleD1Database) {
  const listed = () => db.select({ id: cells.id }).from(cells).orderBy(asc(cells.created_at_ms), asc(cells.id))

  return {
    /** Stores the cell and has every tenant yet to hear of it; the same id again is no error. @throws AppError `name_taken`. */
    async addCell(id: CellId, { name, weights }: CellCreate, nowMs: number): Promise<CellRow> {
      await db.batch([
        db
          .insert(cells)
          .values({ id, name, weights: JSON.stringify(weights), created_at_ms: nowMs })
          .onConflictDoNothing(),
        db
          .update(tenants)
          .set({ revision: sql`${tenants.revision} + 1` })
          .where(sql`exists (select 1 from ${cells} where ${cells.id} = ${id})`),
      ])
      const row = await db.select().from(cells).where(eq(cells.name, name)).get()
      if (row?.id !== id) throw new AppError("name_taken", `There is already a cell named ${name}.`)
      return cellOf(row)
    },
    /** Merges the change into the row (RFC 7396), in one statement. @throws AppError `not_found`. */
    async updateCell(id: CellId, { weights }: CellUpdate): Promise<CellRow> {
      const change = {
        weights: sql`json_patch(${cells.weights}, ${JSON.stringify(weights)})`,
        revision: sql`${cells.revision} + 1`,
      }
      const [row] = await db.update(cells).set(change).where(eq(cells.id, id)).returning()
      if (!row) throw noSuchCell()
      return cellOf(row)
    },
    /** @throws AppError `not_found`. */
    async cell(id: CellId): Promise<CellRow> {
      const row = await db.select().from(cells).where(eq(cells.id, id)).get()
      if (!row) throw noSuchCell()
      return cellOf(row)
    },
    async cells(after: string, limit: number): Promise<CellRow[]> {
      const rows = await db.select().from(cells).where(gt(cells.id, after)).orderBy(asc(cells.id)).limit(limit)
      return rows.map(cellOf)
    },

    /** What the tenant's object should hold; row and cells are of one moment. @throws AppError `not_found`. */
    async tenantConfig(id: TenantId): Promise<TenantConfig> {
      const [rows, all] = await db.batch([db.select().from(tenants).where(eq(tenants.id, id)), listed()])
      const [row] = rows
      if (!row) throw new AppError("not_found", "There is no tenant with this id.")
      return configOf(row, all)
    },
    /** The same for tenants whose objects have yet to hear of a change, by id. */
    async untold(after: string, limit: number): Promise<TenantConfig[]> {
      const behind = and(sql`told_revision < revision`, gt(tenants.id, after))
      const [rows, all] = await db.batch([
        db.select().from(tenants).where(behind).orderBy(asc(tenants.id)).limit(limit),
        listed(),
      ])
      return rows.map((row) => configOf(row, all))
    },
    async tenantTold(id: TenantId, revision: number): Promise<void> {
      const older = and(eq(tenants.id, id), lt(tenants.told_revision, revision))
      await db.update(tenants).set({ told_revision: revision }).where(older)
    },
  }
}

const noSuchCell = () => new AppError("not_found", "There is no cell with this id.")

const cellOf = (row: typeof cells.$inferSelect): CellRow => ({
  id: CellId.parse(row.id),
  name: row.name,
  weights: Weights.parse(JSON.parse(row.weights)),
  revision: row.revision,
  createdAtMs: row.created_at_ms,
})

const configOf = (row: typeof tenants.$inferSelect, all: readonly { id: string }[]): TenantConfig => ({
  tenant_id: TenantId.parse(row.id),
  name: row.name,
  quota: Quota.parse(JSON.parse(row.quota)),
  policy: Policy.parse(JSON.parse(row.policy)),
  revision: row.revision,
  cells: all.map(({ id }) => CellId.parse(id)),
})
