/**
 * `Prefer: wait=N` (RFC 7240, section 4.3): the caller would rather wait up to N seconds for what it asked for than be answered
 * at once. A preference is never an error: one that we do not know, or cannot read, is left out of `Preference-Applied`.
 */
import { MAX_WAIT_SECONDS } from "../../schema/api.ts"

export const PREFER_HEADER = "Prefer"
export const APPLIED_HEADER = "Preference-Applied"

export interface Hold {
  /** How long the answer may be held back; 0 for not at all. */
  readonly ms: number
  /** What tells the caller that it was. */
  readonly headers: Record<string, string>
}

/** Of several waits the first one counts; parameters after a semicolon mean nothing to us. */
export function holdOf(prefer: string | undefined): Hold {
  const asked = (prefer ?? "").split(",").flatMap((one) => /^\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;|$)/i.exec(one)?.[1] ?? [])[0]
  if (asked === undefined) return { ms: 0, headers: {} }
  const seconds = Math.min(Number(asked), MAX_WAIT_SECONDS)
  return { ms: seconds * 1000, headers: { [APPLIED_HEADER]: `wait=${seconds}` } }
}
