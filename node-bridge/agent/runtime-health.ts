/**
 * Whether containers can be created on this host at all. Several that failed in a row by the host's own fault make it suspect; then
 * it makes one of its own, and only if that fails as well is it broken: what tenants ask for cannot break it. It is tried again
 * until it works. Runs that go on are left alone.
 */
import type { NodeCondition } from "../../schema/node.ts"
import type { Assignment } from "../../schema/protocol.ts"
import type { Timers } from "../timers.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"

/** What failed for reasons that lie in this host, whatever was asked for. */
const HOST_FAULTS: ReadonlySet<string> = new Set([
  "node_fault", "prepare_failed", "start_failed", "not_prepared", "disk_failed", "image_mount_failed", "idmap_unsupported",
  "user_namespace_failed", "tool_missing",
]) // prettier-ignore

export const SUSPECT_AFTER = 3
export const PROBE_EVERY_MS = 30_000

export interface Failed {
  readonly tenant: string
  readonly image: string
}

/** Failures in a row, the newest last. One of the tenant's own doing says nothing, for or against. Pure. */
export const afterFailure = (before: readonly Failed[], failed: Failed, code: string): readonly Failed[] =>
  HOST_FAULTS.has(code) ? [...before, failed].slice(-SUSPECT_AFTER) : before

/** One image of one tenant may be odd in a way that only looks like the host's fault. */
export const isSuspect = (failures: readonly Failed[]): boolean =>
  failures.length >= SUSPECT_AFTER && new Set(failures.map(({ tenant, image }) => `${tenant} ${image}`)).size > 1

export interface RuntimeHealthOptions {
  /** Makes a container of the host's own; throws when that fails. */
  readonly probe: () => Promise<void>
  readonly timers: Timers
  readonly log: Log
  readonly changed: () => void
}

export class RuntimeHealth {
  readonly #options: RuntimeHealthOptions
  #failures: readonly Failed[] = []
  #broken: NodeCondition | null = null
  #probing = false
  #probedAt = Number.NEGATIVE_INFINITY
  #cancel: (() => void) | null = null

  constructor(options: RuntimeHealthOptions) {
    this.#options = options
  }

  get condition(): NodeCondition | null {
    return this.#broken
  }

  succeeded(): void {
    this.#failures = []
    this.#become(null)
  }

  failed({ tenant_id, spec }: Assignment, code: string): void {
    this.#failures = afterFailure(this.#failures, { tenant: tenant_id, image: spec.image }, code)
    const rested = this.#options.timers.boottime() - this.#probedAt >= PROBE_EVERY_MS
    if (isSuspect(this.#failures) && rested && this.#broken === null) void this.#probe()
  }

  close(): void {
    this.#probing = true // no other begins
    this.#cancel?.()
  }

  async #probe(): Promise<void> {
    if (this.#probing) return
    this.#probing = true
    const { probe, timers, log } = this.#options
    this.#probedAt = timers.boottime()
    try {
      await probe()
      this.#probing = false
      this.succeeded()
    } catch (error) {
      log.error("this host cannot create containers", { error: explain(error) })
      this.#probing = false
      this.#become({ kind: "runtime_broken", message: `Containers cannot be created here: ${explain(error)}`.slice(0, 512) })
      this.#cancel = timers.after(PROBE_EVERY_MS, () => void this.#probe())
    }
  }

  #become(broken: NodeCondition | null): void {
    const changed = (broken === null) !== (this.#broken === null)
    this.#broken = broken
    if (broken === null) this.#cancel?.()
    if (!changed) return
    this.#options.log.warn(broken ? "takes no new containers" : "containers can be created again", {})
    this.#options.changed()
  }
}
