/** Asks the platform who a container is, on its behalf. What it answers is the container's, and is kept for it alone. */
import { IdentityAnswer } from "../../schema/identity.ts"
import type { IdentityTokens } from "../identity/sockets.ts"

const MAX_ANSWER_BYTES = 64 * 1024

export interface IdentityTokensOptions {
  readonly url: string
  readonly assertion: () => Promise<string>
}

export const identityTokens =
  ({ url, assertion }: IdentityTokensOptions): IdentityTokens =>
  async ({ tenant_id, run_id }, audience, signal) => {
    const response = await fetch(new URL("/v1/nodes/identity", url), {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${await assertion()}` },
      body: JSON.stringify({ tenant_id, run_id, audience }),
      redirect: "error",
      signal,
    })
    const text = (await response.text()).slice(0, MAX_ANSWER_BYTES)
    if (!response.ok) throw new Error(`the platform answered ${response.status}`)
    return IdentityAnswer.parse(JSON.parse(text))
  }
