/** `drizzle-kit generate --config schema/tables/tenant.config.ts` writes the next migration of TenantObject's database. */
export default {
  dialect: "sqlite",
  driver: "durable-sqlite",
  schema: "./schema/tables/tenant.ts",
  out: "./schema/migrations/tenant",
}
