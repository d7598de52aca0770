/** Whether the claims of another issuer's token are those that a trust is for. Pure. */
import type { ClaimCondition } from "../schema/tokens.ts"

/** The first claim that is not as it must be; undefined when all are. */
export const failing = (conditions: readonly ClaimCondition[], claims: Readonly<Record<string, unknown>>): string | undefined =>
  conditions.find((condition) => !holds(condition, Object.hasOwn(claims, condition.claim) ? claims[condition.claim] : undefined))
    ?.claim

function holds(condition: ClaimCondition, value: unknown): boolean {
  const said = (Array.isArray(value) ? value : [value]).flatMap(textOf)
  if ("equals" in condition) return said.some((text) => condition.equals.includes(text))
  return said.some((text) => text.startsWith(condition.starts_with))
}

/** Some issuers send numbers and truth values as text, some as they are. */
const textOf = (value: unknown): string[] =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean" ? [String(value)] : []
