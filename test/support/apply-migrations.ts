/** Brings the directory's database up to date before each file of tests in workerd. */
import { applyD1Migrations } from "cloudflare:test"
import { env } from "cloudflare:workers"

await applyD1Migrations(env.DIRECTORY, env.DIRECTORY_MIGRATIONS)
