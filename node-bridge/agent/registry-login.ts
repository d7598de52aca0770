/**
 * Asks the platform for what a run's image is to be pulled with. The answer is for that one pull and is kept nowhere: a host
 * that is searched shows no tenant's credentials but those in use.
 */
import { RegistryLogin } from "../../schema/registry-credentials.ts"
import { explain } from "../log.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { RegistryLogins } from "../runtime/ports.ts"

const ANSWER_MS = 10_000
const MAX_ANSWER_BYTES = 64 * 1024

export interface RegistryLoginOptions {
  readonly url: string
  readonly assertion: () => Promise<string>
}

export const registryLogins =
  ({ url, assertion }: RegistryLoginOptions): RegistryLogins =>
  async ({ tenant_id, run_id }, signal) => {
    const response = await ask()
    const text = (await response.text()).slice(0, MAX_ANSWER_BYTES)
    if (response.ok) return RegistryLogin.parse(JSON.parse(text))
    if (response.status === 404)
      throw new ControllerError("registry_credential_missing", "The container's registry credential has been removed.")
    throw unavailable(new Error(`it answered ${response.status}`))

    async function ask(): Promise<Response> {
      try {
        return await fetch(new URL("/v1/nodes/registry-login", url), {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${await assertion()}` },
          body: JSON.stringify({ tenant_id, run_id }),
          redirect: "error",
          signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
        })
      } catch (error) {
        signal.throwIfAborted()
        throw unavailable(error)
      }
    }
  }

const unavailable = (cause: unknown) =>
  new ControllerError("registry_credential_unavailable", `The registry credential could not be fetched: ${explain(cause)}.`, {
    retryable: true,
    cause,
  })
