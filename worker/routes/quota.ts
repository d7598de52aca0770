import { QuotaUse } from "../../schema/api.ts"
import { quotaUse } from "../examples.ts"
import { callerOf, operation, tenantOf } from "../operation.ts"

export const readQuota = operation({
  id: "readQuota",
  method: "get",
  path: "/v1/quota",
  tag: "Usage",
  access: "usage:read",
  admission: "by-its-call",
  summary: "Read the quota and its use",
  description:
    "What your containers may ask for in all, and what they ask for now, each from its start until its run has ended. Beyond it " +
    "a create or start is refused with `quota_exceeded`, which names the part; a container that finds no node is another thing " +
    "and waits.",
  answer: { status: 200, description: "Quota and use.", schema: QuotaUse, example: quotaUse },
  errors: [],
  example: {},
  handle: async (c) => ({ status: 200, body: await tenantOf(c).quota(callerOf(c)) }),
})
