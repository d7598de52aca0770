/** Drizzle over an object's own SQLite. Everything here is synchronous: an async transaction would not roll back. */
import { getTableColumns, sql } from "drizzle-orm"
import { type DrizzleSqliteDODatabase, drizzle } from "drizzle-orm/durable-sqlite"
import { migrate } from "drizzle-orm/durable-sqlite/migrator"
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core"

export type Database = DrizzleSqliteDODatabase

type Migrations = Parameters<typeof migrate>[1]

export const openDatabase = (storage: DurableObjectStorage): Database => drizzle(storage)

/** Brings the tables up to date. Call it in the constructor, under `blockConcurrencyWhile`: nothing may see older tables. */
export async function migrateOnce(db: Database, migrations: Migrations): Promise<void> {
  await migrate(db, migrations)
}

/** Writes a whole row, whether it is there already or not; prepared, because every change of a run goes through it. */
export function prepareUpsert<T extends SQLiteTable>(db: Database, table: T, key: SQLiteColumn) {
  const names = Object.keys(getTableColumns(table))
  const values = Object.fromEntries(names.map((name) => [name, sql.placeholder(name)])) as T["$inferInsert"]
  const set = Object.fromEntries(
    names.filter((name) => name !== key.name).map((name) => [name, sql`excluded.${sql.identifier(name)}`]),
  ) as never
  const statement = db.insert(table).values(values).onConflictDoUpdate({ target: key, set }).prepare()
  return (row: T["$inferSelect"]) => void statement.run(row)
}
