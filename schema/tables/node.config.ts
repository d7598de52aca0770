/** `drizzle-kit generate --config schema/tables/node.config.ts` writes the next migration of NodeObject's database. */
export default {
  dialect: "sqlite",
  driver: "durable-sqlite",
  schema: "./schema/tables/node.ts",
  out: "./schema/migrations/node",
}
