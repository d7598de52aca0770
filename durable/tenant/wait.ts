/** When a container has the status that somebody waits for, and when it cannot come to it any more. Pure. */
import type { Container } from "../../schema/api.ts"
import type { Status } from "../../schema/lifecycle.ts"
import type { RunRow } from "./rows.ts"

/** Statuses that pass by themselves. */
const TRANSIENT: readonly Status[] = ["scheduling", "pulling", "starting", "stopping"]

const ENDED: readonly Status[] = ["exited", "lost"]
const SETTLED: readonly Status[] = ["created", ...ENDED]

export type WaitVerdict = "reached" | "not_yet" | "never"

/** Where a wait stands; "never": not by itself any more. `run` narrows it to one run: an older run counts by how it ended, whatever came after it. */
export function waitVerdict(view: Container, wanted: Status | "settled", run: RunRow | null | undefined): WaitVerdict {
  const status = run === undefined ? view.status : statusOfRun(view, run)
  if (wanted === "settled" ? !TRANSIENT.includes(status) : status === wanted) return "reached"
  if (status === "removed" || (run !== undefined && ENDED.includes(status))) return "never"
  // Only a call takes it from there. Removal may still be asked for by whoever it is that waits for the removal to be done.
  return SETTLED.includes(status) && wanted !== "removed" ? "never" : "not_yet"
}

/** Null: the run is known no longer, so it has ended and left its node. */
function statusOfRun(view: Container, run: RunRow | null): Status {
  if (run === null) return "exited"
  switch (run.state) {
    case "completed":
    case "failed":
    case "rejected":
    case "stopped":
      return "exited"
    case "orphaned":
      return "lost"
    case "pending":
    case "placed":
    case "accepted":
    case "preparing":
    case "ready":
    case "starting":
    case "running":
      return view.status
  }
}
