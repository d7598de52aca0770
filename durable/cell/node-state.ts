/** What filters and scorers may know of a node: its offer, and what the ledger has reserved of it. */
import type { Profile } from "../../schema/container.ts"
import type { NodeId } from "../../schema/ids.ts"
import type { Capacity } from "../../schema/node.ts"

export interface NodeState {
  readonly id: NodeId
  readonly capacity: Capacity
  readonly labels: Readonly<Record<string, string>>
  readonly profiles: ReadonlySet<Profile>
  readonly ready: boolean
  /** What is reserved; booked by the ledger alone. */
  readonly used: { readonly runs: number; readonly cpus: number; readonly memory_bytes: number; readonly pids: number }
}
