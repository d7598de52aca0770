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

/** Characters of rows in one statement. A value takes 2 MB at most, and quotes inside a row's own JSON are escaped once more. */
const ROWS_PER_STATEMENT_CHARACTERS = 256 * 1024

/** Inserts new rows, many in a statement: each statement costs more than a row does. A row that is there already is an error. */
export function insertMany<T extends SQLiteTable>(db: Database, table: T, rows: readonly T["$inferInsert"][]): void {
  const [first] = rows
  if (first === undefined) return
  const columns = Object.entries(getTableColumns(table)).filter(([name]) => name in first)
  const names = sql.join(columns.map(([, column]) => sql.identifier(column.name)), sql`, `) // prettier-ignore
  const values = sql.raw(columns.map((_, i) => `value ->> ${i}`).join(", "))
  const insert = (some: readonly string[]) =>
    void db.run(sql`insert into ${table} (${names}) select ${values} from json_each(${`[${some.join()}]`}) order by key`)
  let chunk: string[] = []
  let characters = 0
  for (const row of rows) {
    const driven = columns.map(([name, column]) => driverValue(column, row[name as keyof typeof row]))
    const text = JSON.stringify(driven)
    if (characters + text.length > ROWS_PER_STATEMENT_CHARACTERS && chunk.length > 0) {
      insert(chunk)
      chunk = []
      characters = 0
    }
    chunk.push(text)
    characters += text.length
  }
  insert(chunk)
}

const driverValue = (column: SQLiteColumn, value: unknown) => {
  const known = value === undefined || value === null ? null : column.mapToDriverValue(value)
  return typeof known === "boolean" ? Number(known) : known
}
