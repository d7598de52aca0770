/** The SQL of registry credentials, in their tenant's database. */
import { asc, eq } from "drizzle-orm"
import type { RegistryCredentialId } from "../../schema/ids.ts"
import { registryCredentials } from "../../schema/tables/tenant.ts"
import type { Database } from "../shared/database.ts"

export type RegistryCredentialRow = typeof registryCredentials.$inferSelect

export class RegistryCredentialStore {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  all(): RegistryCredentialRow[] {
    return this.#db.select().from(registryCredentials).orderBy(asc(registryCredentials.id)).all()
  }

  get(id: RegistryCredentialId): RegistryCredentialRow | undefined {
    return this.#db.select().from(registryCredentials).where(eq(registryCredentials.id, id)).get()
  }

  add(row: RegistryCredentialRow): void {
    this.#db.insert(registryCredentials).values(row).run()
  }

  used(id: RegistryCredentialId, last_used_ms: number): void {
    this.#db.update(registryCredentials).set({ last_used_ms }).where(eq(registryCredentials.id, id)).run()
  }

  remove(id: RegistryCredentialId): void {
    this.#db.delete(registryCredentials).where(eq(registryCredentials.id, id)).run()
  }
}
