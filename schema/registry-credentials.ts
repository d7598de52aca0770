/** What a tenant logs in to a registry with. Written once and never shown again; a container names it by its id. */
import { z } from "zod"
import { RegistryCredentialId, RunId, TenantId } from "./ids.ts"

/** Of one tenant. */
export const MAX_REGISTRY_CREDENTIALS = 50
/** What an image reference without a registry means, as Docker and containers-auth.json(5) have it. */
export const DEFAULT_REGISTRY = "docker.io"

const Time = z.iso.datetime().meta({ description: "RFC 3339, UTC." })
const HOST = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?$/

export const RegistryCredentialCreate = z
  .strictObject({
    registry: z.string().regex(HOST, "must be a registry's host in lower case, with a port if it has one: ghcr.io"),
    username: z
      .string()
      .min(1)
      .max(255)
      .regex(/^[^:\p{Cc}]*$/u, "must hold no colon (RFC 7617) and no control characters"),
    password: z
      .string()
      .min(1)
      .max(8192)
      .regex(/^\P{Cc}*$/u, "must hold no control characters")
      .meta({ description: "Or a token. It is stored sealed and never shown.", format: "password" }),
  })
  .meta({ id: "RegistryCredentialCreate" })
export type RegistryCredentialCreate = z.infer<typeof RegistryCredentialCreate>

export const RegistryCredential = z
  .object({
    id: RegistryCredentialId,
    registry: z.string(),
    username: z.string(),
    created_at: Time,
    last_used_at: Time.nullable().meta({ description: "When a node last fetched it for a pull." }),
  })
  .meta({ id: "RegistryCredential" })
export type RegistryCredential = z.infer<typeof RegistryCredential>

/** A node asks for it when it is about to pull for a run that is its own. */
export const RegistryLoginRequest = z.strictObject({ tenant_id: TenantId, run_id: RunId }).meta({ id: "RegistryLoginRequest" })
export const RegistryLogin = z
  .object({ registry: z.string(), username: z.string(), password: z.string() })
  .meta({ id: "RegistryLogin" })
export type RegistryLogin = z.infer<typeof RegistryLogin>

/** The registry of an image reference in lower case, by the rule of Docker: its first part when that looks like a host. */
export function registryOf(reference: string): string {
  const [first = "", ...rest] = reference.split("/")
  const isHost = rest.length > 0 && (/[.:A-Z[]/.test(first) || first === "localhost")
  return isHost ? first.toLowerCase() : DEFAULT_REGISTRY
}
