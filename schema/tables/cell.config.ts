/** `drizzle-kit generate --config schema/tables/cell.config.ts` writes the next migration of CellObject's database. */
export default {
  dialect: "sqlite",
  driver: "durable-sqlite",
  schema: "./schema/tables/cell.ts",
  out: "./schema/migrations/cell",
}
