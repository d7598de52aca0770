/** A run's part of the processors, in the kernel's units. Pure. */
import type { OciResources } from "./spec-types.ts"

const PERIOD_MICROSECONDS = 100_000
/** The kernel's own least. */
const LEAST_QUOTA_MICROSECONDS = 1_000
const SHARES = { least: 2, ofOneProcessor: 1_024, most: 262_144 }

/** `processors`: which ones, as in `0-3,8`; null: all. */
export function cpuFor(cpus: number, processors: string | null): OciResources["cpu"] {
  const shares = Math.round(cpus * SHARES.ofOneProcessor)
  return {
    quota: Math.max(LEAST_QUOTA_MICROSECONDS, Math.round(cpus * PERIOD_MICROSECONDS)),
    period: PERIOD_MICROSECONDS,
    shares: Math.min(SHARES.most, Math.max(SHARES.least, shares)),
    ...(processors !== null && { cpus: processors }),
  }
}
