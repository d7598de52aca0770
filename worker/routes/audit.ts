/** The audit logs: a tenant's own, and operators'. */
import { AuditPage, AuditQuery, CHECKPOINT_TYPE } from "../../schema/audit.ts"
import { OPERATOR_SCOPE } from "../../schema/api.ts"
import { auditEntry } from "../examples.ts"
import type { AppContext } from "../env.ts"
import { operation, tenantIdOf, tenantOf } from "../operation.ts"

const example = {
  items: [auditEntry],
  next_cursor: null,
  checkpoint: "eyJhbGciOiJFZERTQSIsInR5cCI6ImJlcnRoLWF1ZGl0LWNoZWNrcG9pbnQrand0In0.…",
}
const CHECKED =
  "Each entry holds the hash of the one before, and the answer ends in a signed checkpoint of the last: save both, and " +
  "`npm run audit -- verify` finds any line that was cut, changed or moved."

export const readAudit = operation({
  id: "readAudit",
  method: "get",
  path: "/v1/audit",
  tag: "Audit",
  access: "tenant:admin",
  summary: "Read the audit log",
  description: `Every call that changed something of yours, or was denied: who, by which token, what, on what, and the result. ${CHECKED}`,
  query: AuditQuery,
  answer: { status: 200, description: "One page, oldest first.", schema: AuditPage, example },
  errors: [],
  example: { query: "after=0" },
  async handle(c, { query: { after, limit } }) {
    const { entries, head } = await tenantOf(c).audit(after, limit + 1)
    return { status: 200, body: await pageOf(c, tenantIdOf(c), entries, limit, head) }
  },
})

export const readOperatorAudit = operation({
  id: "readOperatorAudit",
  method: "get",
  path: "/v1/admin/audit",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Read the operators' audit log",
  description: `Every operator's call that changed something, or was denied. ${CHECKED}`,
  query: AuditQuery,
  answer: { status: 200, description: "One page, oldest first.", schema: AuditPage, example },
  errors: [],
  example: { query: "after=0" },
  async handle(c, { query: { after, limit } }) {
    const { audit } = c.var.services.directory
    const [entries, head] = [await audit.after(after, limit + 1), await audit.head()]
    return { status: 200, body: await pageOf(c, "operators", entries, limit, head) }
  },
})

async function pageOf(
  c: AppContext,
  log: string,
  entries: AuditPage["items"],
  limit: number,
  head: { seq: number; hash: string },
) {
  const { keyring, clock } = c.var.services
  const items = entries.slice(0, limit)
  const next_cursor = entries.length > limit ? String(items.at(-1)?.seq) : null
  const claims = { iss: c.env.ISSUER, sub: log, iat: Math.floor(clock.now() / 1000), ...head }
  return { items, next_cursor, checkpoint: await keyring.signStatement(CHECKPOINT_TYPE, claims) }
}
