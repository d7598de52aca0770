import { describe, expect, it } from "vitest"
import { nextCollection } from "../../../durable/tenant/retention.ts"
import { EVENT_RETENTION_SECONDS } from "../../../schema/api.ts"

const MINUTE = 60_000
const NOTHING = { idempotency: null, event: null, removed: null }

describe("the next collection", () => {
  it("is not needed when nothing is kept", () => {
    expect(nextCollection(NOTHING, 0)).toBeNull()
  })

  it("comes soon after the first record is due", () => {
    const due = EVENT_RETENTION_SECONDS * 1000 + 5 * MINUTE
    const at = nextCollection({ ...NOTHING, event: 5 * MINUTE, idempotency: due + MINUTE }, 6 * MINUTE)
    expect(at).toBeGreaterThan(due)
    expect(at).toBeLessThanOrEqual(due + 10 * MINUTE)
  })

  it("does not spin on what is due and cannot go yet", () => {
    const now = 1_000 * MINUTE
    expect(nextCollection({ ...NOTHING, idempotency: 1 }, now)).toBe(now + 10 * MINUTE)
  })
})
