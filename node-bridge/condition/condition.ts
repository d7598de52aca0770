/** What a host finds wrong with itself, as one answer: new runs may come while it finds nothing. Pure. */
import type { NodeCondition } from "../../schema/node.ts"
import type { Condition } from "../../schema/protocol.ts"

/** The first gives the reason. */
export function conditionOf(found: readonly NodeCondition[]): Condition {
  const [first] = found
  const reason = first ? { code: first.kind, message: first.message } : null
  return { accepting: first === undefined, reason, conditions: [...found] }
}

/** `condition` with what somebody else found as well; it comes first. */
export const withFound = (condition: Condition, found: readonly NodeCondition[]): Condition =>
  found.length === 0 ? condition : conditionOf([...found, ...condition.conditions])
