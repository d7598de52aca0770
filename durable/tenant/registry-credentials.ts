/**
 * What a tenant logs in to registries with. The password is sealed when it comes and opened for one reader alone: the node that
 * holds a live run whose container names the credential, at the time of its pull. It is in no assignment, event, answer or log.
 */
import type { Page } from "../../schema/api.ts"
import type { ContainerSpec } from "../../schema/container.ts"
import { AppError } from "../../schema/errors.ts"
import type { NodeId, RegistryCredentialId, RunId } from "../../schema/ids.ts"
import { isTerminal } from "../../schema/lifecycle.ts"
import {
  MAX_REGISTRY_CREDENTIALS, type RegistryCredential, type RegistryCredentialCreate, type RegistryLogin, registryOf,
} from "../../schema/registry-credentials.ts" // prettier-ignore
import type { Database } from "../shared/database.ts"
import type { Clock } from "../shared/ports.ts"
import type { Sealer } from "../shared/sealing.ts"
import type { Refusal } from "./actions.ts"
import { type RegistryCredentialRow, RegistryCredentialStore } from "./registry-credential-store.ts"
import type { ContainerRow, RunRow } from "./rows.ts"

export class RegistryCredentials {
  readonly #store: RegistryCredentialStore
  readonly #clock: Clock
  readonly #sealer: Sealer

  constructor(db: Database, clock: Clock, sealer: Sealer) {
    this.#store = new RegistryCredentialStore(db)
    this.#clock = clock
    this.#sealer = sealer
  }

  /** A repeat with the same id, after a crash, answers what the first one made. */
  async create(id: RegistryCredentialId, create: RegistryCredentialCreate): Promise<RegistryCredential> {
    const { registry, username, password } = create
    const sealed = await this.#sealer.seal(id, password)
    const known = this.#store.get(id)
    if (known) return viewOf(known)
    if (this.#store.all().length >= MAX_REGISTRY_CREDENTIALS) {
      const detail = `A tenant may keep ${MAX_REGISTRY_CREDENTIALS} registry credentials; remove one first.`
      throw new AppError("quota_exceeded", detail)
    }
    const row = { id, registry, username, sealed, created_at_ms: this.#clock.now(), last_used_ms: null }
    this.#store.add(row)
    return viewOf(row)
  }

  list(): Page<RegistryCredential> {
    return { items: this.#store.all().map(viewOf), next_cursor: null }
  }

  /** Containers that name it keep what they have; their next pull that needs it fails and says so. */
  remove(id: RegistryCredentialId): void {
    if (!this.#store.get(id)) throw new AppError("not_found", `You have no registry credential ${id}.`)
    this.#store.remove(id)
  }

  /** Why a container with this spec may not be created; undefined when it may. */
  refused({ image, registry_credential: id }: ContainerSpec): Refusal | undefined {
    if (id === undefined) return undefined
    const known = this.#store.get(id)
    const wanted = registryOf(image)
    if (known?.registry === wanted) return undefined
    const message = known ? `is for ${known.registry}, and the image is of ${wanted}` : "is no registry credential of yours"
    return {
      code: "invalid_field",
      detail: `registry_credential ${message}.`,
      errors: [{ pointer: "/registry_credential", message }],
    }
  }

  /** For the node that is about to pull. @throws AppError `not_found` unless the run is live, there, and names a credential. */
  async loginFor(
    nodeId: NodeId,
    runId: RunId,
    run: RunRow | undefined,
    container: ContainerRow | undefined,
  ): Promise<RegistryLogin> {
    if (run === undefined || run.node_id !== nodeId || isTerminal(run.state))
      throw new AppError("not_found", `This node holds no live run ${runId}.`)
    const id = container?.spec.registry_credential
    const row = id && this.#store.get(id)
    if (!row) throw new AppError("not_found", "The container's registry credential has been removed.")
    const password = await this.#sealer.unseal(row.id, row.sealed)
    if (password === undefined)
      throw new AppError("internal", "The credential cannot be read: the platform's secret has changed.")
    this.#store.used(row.id, this.#clock.now())
    return { registry: row.registry, username: row.username, password }
  }
}

const viewOf = ({ id, registry, username, created_at_ms, last_used_ms }: RegistryCredentialRow): RegistryCredential => ({
  id,
  registry,
  username,
  created_at: new Date(created_at_ms).toISOString(),
  last_used_at: last_used_ms === null ? null : new Date(last_used_ms).toISOString(),
})
