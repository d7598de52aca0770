/** What a tenant should know of a container beyond what it asked for: where a limit reaches less far than its name. Pure. */
import type { ContainerSpec } from "../../schema/container.ts"
import type { RunRow } from "./rows.ts"

type Spec = Pick<ContainerSpec, "resources">

const DIRECT_IO_ONLY =
  "The disk I/O limits hold for direct and synced I/O only: the container's host cannot limit what its kernel writes back later."

export function warningsOf({ resources }: Spec, run: Pick<RunRow, "features"> | undefined): string[] {
  const { weight: _, ...limits } = resources.io
  const limited = Object.values(limits).some((limit) => limit !== undefined)
  const buffered = run?.features?.includes("buffered_io_limits") ?? true
  return limited && !buffered ? [DIRECT_IO_ONLY] : []
}
