/** `drizzle-kit generate --config schema/tables/directory.config.ts` writes the next migration of the directory. */
export default {
  dialect: "sqlite",
  schema: "./schema/tables/directory.ts",
  out: "./schema/migrations/directory",
}
