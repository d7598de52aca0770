/**
 * The audit log's part at the edge: calls whose change is not one transaction of the TenantObject (its containers' are, and are
 * written there), and those that were denied before they came to it. A tenant's are kept by its TenantObject, operators' by the
 * directory. An entry stands before the call begins; a second one says how it ended.
 */
import { AppError, asAppError } from "../schema/errors.ts"
import type { AppContext } from "./env.ts"
import type { StoredAnswer } from "./middleware/idempotency.ts"
import { callerOf } from "./caller.ts"

/** Does `work` between two entries. */
export async function audited<T extends StoredAnswer | Response>(
  c: AppContext,
  target: string | null,
  work: () => Promise<T>,
): Promise<T> {
  await write(c, target, "begun")
  try {
    const reply = await work()
    await write(c, target ?? madeBy(reply), "ok")
    return reply
  } catch (error) {
    await write(c, target, asAppError(error)?.code ?? "internal")
    throw error
  }
}

/** A call whose token does not allow it. Never throws: the caller is refused in any case. */
export async function denied(c: AppContext, refusal: unknown): Promise<void> {
  const code = asAppError(refusal)?.code
  if (code === undefined) return
  await write(c, new URL(c.req.url).pathname, code).catch((error: unknown) => {
    if (!(asAppError(error) instanceof AppError)) console.error("a denied call could not be written into the audit log", error)
  })
}

async function write(c: AppContext, target: string | null, result: string): Promise<void> {
  const { directory, peers, clock } = c.var.services
  const { tenant } = c.var.principal
  const caller = callerOf(c)
  if (tenant !== null) return peers.tenant(tenant).record(caller, target, result)
  const { subject, token_id, request_id, operation } = caller
  await directory.audit.add({ subject, token_id, request_id, operation, target, result }, clock.now())
}

/** What the call made, by the id in its answer. */
function madeBy(reply: StoredAnswer | Response): string | null {
  if (reply instanceof Response) return null
  const { body } = reply
  if (typeof body !== "object" || body === null) return null
  if ("id" in body && typeof body.id === "string") return body.id
  return "webhook" in body ? madeBy({ status: reply.status, body: body.webhook }) : null
}
