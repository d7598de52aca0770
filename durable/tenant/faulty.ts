/** Which ended runs speak against their node. Pure. */
import type { RunState } from "../../schema/lifecycle.ts"
import type { RunRow } from "./rows.ts"

/** What a host reports of itself: whatever the container asked for, another host might have run it. */
const HOST_FAULTS: readonly string[] = [
  "start_failed", "node_fault", "process_lost", "monitor_lost", "exit_code_lost", "host_lost_run", "accelerator_lost",
] // prettier-ignore

/** A host that was told to stop, or to go down, did as it was told. */
const ENDS_BY_FAULT: readonly RunState[] = ["failed", "rejected"]

/** True when a run that was on a node failed by no fault of its own: that node should be tried last for a while. */
export function isFaulty({ node_id, state, reason, exit }: Pick<RunRow, "node_id" | "state" | "reason" | "exit">): boolean {
  if (node_id === null) return false
  if (state === "orphaned") return true
  return ENDS_BY_FAULT.includes(state) && (exit?.by === "host" || HOST_FAULTS.includes(reason?.code ?? ""))
}
