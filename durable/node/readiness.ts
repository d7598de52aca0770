/** Whether a node may be given new runs, and if not, the reason that weighs most. Pure. */
import type { Condition, Reason } from "../../schema/protocol.ts"
import type { NodeStatus } from "../shared/rpc.ts"
import type { NodeRow } from "./store.ts"

const DISCONNECTED: Reason = { code: "node_disconnected", message: "The node is not connected." }
const DRAINING: Reason = { code: "node_draining", message: "The node is being emptied." }
const UNKNOWN: Condition = { accepting: false, reason: null, conditions: [] }

export interface Readiness {
  readonly accepting: boolean
  readonly reason: Reason | null
  readonly conditions: Condition["conditions"]
}

/** What makes a node unready for long is told before what passes by itself; of a node that is away its last word counts for nothing. */
export function readinessOf(
  node: Pick<NodeRow, "condition" | "cordoned" | "cordon_reason" | "drain">,
  connected: boolean,
): Readiness {
  if (!connected) return { accepting: false, reason: DISCONNECTED, conditions: [] }
  const { accepting, reason, conditions } = node.condition ?? UNKNOWN
  if (node.drain !== null) return { accepting: false, reason: DRAINING, conditions }
  if (node.cordoned) return { accepting: false, reason: cordoned(node.cordon_reason), conditions }
  const [found] = conditions
  if (found) return { accepting: false, reason: reason ?? { code: found.kind, message: found.message }, conditions }
  return { accepting, reason: accepting ? null : reason, conditions }
}

/** What operators read; a node that has never connected is known to the directory alone. */
export const statusOf = (
  node: NodeRow | undefined,
  connected: boolean,
  last_seen_ms: number | null,
  drain: NodeStatus["drain"],
): NodeStatus => ({
  connected,
  ...(node ? readinessOf(node, connected) : { accepting: false, reason: DISCONNECTED, conditions: [] }),
  cordoned: node?.cordoned ?? false,
  drain,
  exclusive_to: node?.exclusive_to ?? null,
  last_seen_ms,
  facts: node?.facts ?? null,
})

const cordoned = (why: string | null): Reason => ({
  code: "node_cordoned",
  message: why === null ? "The node's operator lets nothing new be placed there." : `The node was cordoned: ${why}`,
})
