/** What containers count against a tenant's quota, from a start until the run has ended. Pure. */
import type { Quota } from "../../schema/api.ts"
import type { AcceleratorRequest, Resources } from "../../schema/container.ts"
import type { Refusal } from "./actions.ts"

export interface Use {
  readonly containers: number
  readonly cpus: number
  readonly memory_bytes: number
  readonly disk_bytes: number
  /** By kind. */
  readonly accelerators: Readonly<Record<string, number>>
}

export const NO_USE: Use = { containers: 0, cpus: 0, memory_bytes: 0, disk_bytes: 0, accelerators: {} }

const AMOUNTS = ["containers", "cpus", "memory_bytes", "disk_bytes"] as const

/** Of `count` containers. One that takes whichever of several kinds is free counts as each: it may get any. */
export function useOf({ cpus, memory_bytes, disk_bytes, accelerators }: Resources, count = 1): Use {
  const byKind: Record<string, number> = {}
  for (const [kind, most] of accelerators.flatMap(kindsOf)) byKind[kind] = (byKind[kind] ?? 0) + most * count
  return {
    containers: count,
    cpus: thousandths(cpus * count),
    memory_bytes: memory_bytes * count,
    disk_bytes: disk_bytes * count,
    accelerators: byKind,
  }
}

function kindsOf(request: AcceleratorRequest): [string, number][] {
  const options = "first_available" in request ? request.first_available : [request]
  const most = new Map<string, number>()
  for (const { kind, count } of options) most.set(kind, Math.max(most.get(kind) ?? 0, count))
  return [...most]
}

export function added(to: Use, more: Use, sign: 1 | -1): Use {
  const accelerators: Record<string, number> = { ...to.accelerators }
  for (const [kind, count] of Object.entries(more.accelerators)) {
    const sum = (accelerators[kind] ?? 0) + sign * count
    if (sum === 0) delete accelerators[kind]
    else accelerators[kind] = sum
  }
  return {
    containers: to.containers + sign * more.containers,
    cpus: thousandths(to.cpus + sign * more.cpus),
    memory_bytes: to.memory_bytes + sign * more.memory_bytes,
    disk_bytes: to.disk_bytes + sign * more.disk_bytes,
    accelerators,
  }
}

/** Undefined when what is asked for fits into what is left of the quota. */
export function overQuota(used: Use, quota: Quota, asked: Use): Refusal | undefined {
  for (const dimension of AMOUNTS) {
    const refusal = over(dimension, quota[dimension], used[dimension], asked[dimension])
    if (refusal) return refusal
  }
  for (const [kind, count] of Object.entries(asked.accelerators)) {
    const most = quota.accelerators[kind] ?? quota.accelerators["*"] ?? 0
    const refusal = over(`accelerators of the kind ${kind}`, most, used.accelerators[kind] ?? 0, count)
    if (refusal) return refusal
  }
  return undefined
}

function over(dimension: string, most: number, used: number, asked: number): Refusal | undefined {
  if (thousandths(used + asked) <= thousandths(most)) return undefined
  const detail = `The quota for ${dimension} is ${most}; ${used} are in use and this asks for ${asked} more.`
  return { code: "quota_exceeded", detail }
}

/** Sums of fractions of a processor must not trip over binary rounding. */
const thousandths = (value: number) => Math.round(value * 1000) / 1000
