/**
 * Who may use an image that this node has already. A digest is a name and no key: tenants read it in each other's manifests
 * and logs, and one who names it under a repository of their own must not get what only another's credentials opened. So the
 * node keeps, for every image, which repositories gave it, and to whom. Pure.
 */
import { TenantId } from "../../schema/ids.ts"
import type { Reference } from "./reference.ts"

/** Everybody, where a repository gave the image without a tenant's credentials; otherwise the tenant whose they were. */
export type Asker = TenantId | typeof ANYONE
export const ANYONE = "anyone"

/**
 * What is still to be shown before the image may be used: nothing; the registry's word that the repository has it; or the
 * whole image once more, for a manifest is soon passed on, and whoever runs a registry can serve one without its layers.
 */
export type Proof = "nothing" | "word" | "whole"

/** Bounds memory and disk where tenants run registries of endless names; what comes after is asked again each time. */
const MAX_GRANTS = 10_000

/** The repository without tag and digest; references have no spaces. */
export const repositoryOf = (reference: Reference): string =>
  reference.kind === "local" ? `localhost/${reference.name}` : `${reference.registry}/${reference.repository}`

export class Access {
  /** `REPOSITORY ASKER`. */
  readonly #grants = new Set<string>()

  /** Reads lines as `add` gives them; a line that a crash cut short is passed over, and asked again. */
  static parse(text: string): Access {
    const access = new Access()
    for (const line of text.split("\n")) {
      const [repository = "", asker, ...more] = line.split(" ")
      if (repository === "" || more.length > 0) continue
      if (asker === ANYONE || TenantId.safeParse(asker).success) access.#grants.add(line)
    }
    return access
  }

  needs(repository: string, tenantId: TenantId): Proof {
    const known = (asker: Asker) => this.#grants.has(`${repository} ${asker}`)
    if (known(ANYONE) || known(tenantId)) return "nothing"
    const grants = [...this.#grants]
    const open = grants.some((grant) => grant.endsWith(` ${ANYONE}`) || grant.startsWith(`${repository} `))
    return open ? "word" : "whole"
  }

  /** Answers the line to keep on disk; null when there is nothing new to keep. */
  add(repository: string, asker: Asker): string | null {
    const grant = `${repository} ${asker}`
    if (this.#grants.has(grant) || this.#grants.size >= MAX_GRANTS) return null
    this.#grants.add(grant)
    return grant
  }
}
