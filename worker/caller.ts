/** What an object is told of the caller; or of another token that it handed in. */
import type { Call, Caller } from "../durable/shared/rpc.ts"
import type { AppContext, Principal } from "./env.ts"
import type { Idempotency } from "./middleware/idempotency.ts"

export function callerOf(c: AppContext, principal: Principal = c.var.principal): Caller {
  const { subject, token, chain, scopes, details, expiresAtMs } = principal
  const proof = principal === c.var.principal ? c.var.proof : undefined
  return {
    subject,
    token_id: token,
    token_chain: chain,
    scopes: [...scopes],
    details,
    expires_at_ms: expiresAtMs,
    request_id: c.var.requestId,
    operation: c.var.operation,
    proof: proof === undefined ? null : { id: proof.id, until_ms: proof.untilMs, request_id: c.var.requestId },
  }
}

export const callOf = (c: AppContext, idempotency: Idempotency): Call => ({ ...callerOf(c), idempotency })
