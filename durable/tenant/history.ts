/** How a container's runs ended, for whoever asks why. Pure. */
import type { Container } from "../../schema/api.ts"
import type { ContainerRow, RunRow } from "./rows.ts"

/** Ended runs that a container remembers: enough to see a pattern, and some hundred bytes each. */
export const HISTORY_RUNS = 10

export function remembered(container: ContainerRow, run: RunRow): ContainerRow {
  const ended_at = new Date(run.finished_at_ms ?? run.since_ms).toISOString()
  const { id, attempt, state, region, reason } = run
  const entry: Container["history"][number] = { run_id: id, attempt, state, node_region: region, reason, ended_at }
  return { ...container, history: [...container.history, entry].slice(-HISTORY_RUNS) }
}
