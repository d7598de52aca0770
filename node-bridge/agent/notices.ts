/** What a notice makes of the run that it tells of. Pure. */
import type { Notice, Reason, RunSpec } from "../../schema/protocol.ts"

/** How the host ends the run, with the longest that its process may take; null: it goes on. */
export function endOf(
  { kind, reason }: Pick<Notice, "kind" | "reason">,
  spec: Pick<RunSpec, "on_deviation">,
): { readonly reason: Reason; readonly limitSeconds: number | null } | null {
  switch (kind) {
    case "accelerator_lost":
      return { reason, limitSeconds: null } // it may still save its work
    case "isolation_deviated":
      return spec.on_deviation === "stop" ? { reason, limitSeconds: 0 } : null
    case "disk_full":
    case "logs_throttled":
      return null
  }
}
