/** What a failed verb leads to: another try in a moment, or giving up. Pure. */
import { ControllerError } from "../runtime/controller.ts"
import type { Reason } from "../../schema/protocol.ts"
import type { Step } from "./advance.ts"

export type Verb = Exclude<Step["kind"], "wait" | "record">

const FIRST_DELAY_MS = 250
const LONGEST_DELAY_MS = 10_000
/** A registry or a pool may be short for a moment; a tenant would rather read the error than wait longer. */
const TRIES: Partial<Record<Verb, number>> = { prepare: 4, start: 3 }

export type Verdict =
  | { readonly kind: "again"; readonly inMs: number }
  | { readonly kind: "give_up"; readonly reason: Reason; readonly exitCode: number | null }

/** `failures` counts this one. Verbs other than `prepare` and `start` are tried for ever: what runs must be steered. */
export function verdict(verb: Verb, error: unknown, failures: number): Verdict {
  const inMs = Math.min(FIRST_DELAY_MS * 2 ** (failures - 1), LONGEST_DELAY_MS)
  const tries = TRIES[verb]
  if (tries === undefined) return { kind: "again", inMs }
  const known = error instanceof ControllerError ? error : undefined
  if (failures < tries && (known === undefined || known.retryable)) return { kind: "again", inMs }
  // What an unforeseen error says may tell of the host; the tenant reads only that it was not their doing.
  const reason = known?.reason ?? { code: "node_fault", message: `The node failed to ${verb} the container.` }
  return { kind: "give_up", reason, exitCode: known?.exitCode ?? null }
}
