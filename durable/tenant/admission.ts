/** What a tenant may ask for: names, the operator's policy, the quota, and how many containers it may keep. Pure. */
import type { Quota } from "../../schema/api.ts"
import type { ContainerCreate } from "../../schema/container.ts"
import type { TenantConfig } from "../shared/rpc.ts"
import type { Refusal } from "./actions.ts"
import { refusedByPolicy } from "./policy.ts"
import { overQuota, type Use, useOf } from "./use.ts"

/** Containers that a tenant keeps beyond its quota of running ones: created, exited, lost. Each takes up to a MiB of storage. */
export const MAX_IDLE_CONTAINERS = 10_000

/** What the tenant has. */
export interface Standing {
  readonly used: Use
  /** Containers that are not removed. */
  readonly kept: number
  /** Containers that were made within the last minute. */
  readonly created: number
  /** Those of the names asked for that a live container has. */
  readonly taken: readonly string[]
}

/** Undefined when `count` containers as `create` describes may be made; all of them or none. */
export function refusedAdmission(
  create: ContainerCreate,
  count: number,
  { used, kept, created, taken }: Standing,
  { quota, policy }: Pick<TenantConfig, "quota" | "policy">,
): Refusal | undefined {
  const [name] = taken
  if (name !== undefined) return { code: "name_taken", detail: `You already have a live container named ${name}.` }
  return (
    refusedByPolicy(create, policy) ??
    tooMany(kept, count, quota) ??
    tooFast(created, count, quota) ??
    (create.start ? overQuota(used, quota, useOf(create.resources, count)) : undefined)
  )
}

function tooMany(kept: number, count: number, quota: Quota): Refusal | undefined {
  const most = quota.containers + MAX_IDLE_CONTAINERS
  if (kept + count <= most) return undefined
  const detail = `You keep ${kept} containers, running or not, and may keep ${most}: remove some that have ended.`
  return { code: "quota_exceeded", detail }
}

function tooFast(created: number, count: number, { creates_per_minute: most }: Quota): Refusal | undefined {
  if (created + count <= most) return undefined
  const detail = `The quota for creates_per_minute is ${most}; ${created} were made in the last minute and this asks for ${count} more.`
  return { code: "quota_exceeded", detail }
}
