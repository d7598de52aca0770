/**
 * What tenants want: each job is one container or a batch of them, under a key of its own, with what is done to them in time.
 */
import type { ContainerAction } from "../../../durable/shared/rpc.ts"
import type { ContainerCreate } from "../../../schema/container.ts"
import type { TenantId } from "../../../schema/ids.ts"
import { aCreate } from "../../support/factories.ts"
import type { Action } from "../../support/history.ts"
import type { Dice } from "./dice.ts"

const MIB = 1024 ** 2

export interface Deed {
  readonly afterMs: number
  readonly action: ContainerAction & { readonly kind: Action }
}

export interface Job {
  readonly key: string
  readonly tenant: TenantId
  readonly create: ContainerCreate
  readonly count: number
  /** To each of its containers, one after the other. */
  readonly deeds: readonly Deed[]
  /** How long it takes up quota, about; milliseconds. */
  readonly lastsMs: number
}

/** What the fake controller is told by variables; see `fake-knobs.ts`. */
const knobs = (own: Record<string, number>) =>
  Object.fromEntries(Object.entries(own).map(([name, value]) => [`FAKE_${name.toUpperCase()}`, String(value)]))

const removal = (dice: Dice, afterMs: number): Deed => ({ afterMs, action: { kind: "remove", force: dice.chance(0.7) } })
const stop = (afterMs: number, timeout_seconds: number | null): Deed => ({ afterMs, action: { kind: "stop", timeout_seconds } })
const start = (afterMs: number): Deed => ({ afterMs, action: { kind: "start" } })
const restart = (afterMs: number): Deed => ({ afterMs, action: { kind: "restart", timeout_seconds: null } })
const kill = (afterMs: number): Deed => ({ afterMs, action: { kind: "kill", signal: "SIGKILL" } })

/** Of a job that comes and goes by itself, as most do. */
const MOST_IN_BATCH = 60
const LONGEST_ONCE_MS = 12_000

/** A batch of containers that run once, or one container that more is done to. */
export function aJob(dice: Dice, tenant: TenantId, key: string, most: number): Job {
  const resources = { cpus: dice.between(1, 5) / 10, memory_bytes: dice.between(16, 129) * MIB, disk_bytes: 16 * MIB, pids: 16 }
  const runFor = dice.between(0, LONGEST_ONCE_MS)
  const job = (lastsMs: number, create: Parameters<typeof aCreate>[0], deeds: readonly Deed[] = [], count = 1): Job => ({
    key,
    tenant,
    create: aCreate({ resources, stop: { timeout_seconds: 2 }, ...create }),
    count,
    deeds,
    lastsMs,
  })
  if (dice.chance(0.45)) {
    const count = Math.min(dice.between(5, MOST_IN_BATCH), most)
    const env = knobs({ run_for_ms: runFor, exit_code: dice.chance(0.1) ? 1 : 0 })
    return job(runFor + 4_000, { env, remove_on_exit: dice.chance(0.5) }, [], count)
  }
  const lasts = dice.between(3_000, 30_000)
  const service = { restart: { policy: "always" }, drain: dice.chance(0.5) ? "start_first" : "stop_first" } as const
  const kind = dice.next()
  if (kind < 0.25) return job(lasts, service, [removal(dice, lasts)])
  if (kind < 0.4) return job(lasts, { ...service, on_partition: "keep" }, [removal(dice, lasts)])
  if (kind < 0.55) {
    const policy = { policy: "on-failure", max_retries: dice.between(0, 3) } as const
    return job(lasts, { env: knobs({ run_for_ms: runFor, exit_code: dice.between(0, 2) }), restart: policy }, [
      removal(dice, lasts),
    ])
  }
  if (kind < 0.75) {
    const deeds = [stop(dice.between(0, 10_000), dice.between(0, 3)), start(lasts), restart(lasts), removal(dice, lasts)]
    return job(3 * lasts, { restart: { policy: dice.chance(0.5) ? "always" : "no" } }, deeds)
  }
  if (kind < 0.85) return job(lasts, {}, [kill(lasts)])
  if (kind < 0.92) return job(lasts, { start: false }, [start(1_000), removal(dice, lasts)])
  if (kind < 0.96) return job(lasts, { image: "fake.test/missing" }, [removal(dice, lasts)])
  // These stay.
  return job(lasts, service)
}
