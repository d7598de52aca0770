/**
 * The node's lease, kept: armed while the node has live runs, looked at when its alarm goes off. Of what renews it only the
 * platform's own note of the last heartbeat outlives this object's memory, with the socket; so an idle node costs no write.
 */
import type { Alarms } from "../shared/alarms.ts"
import type { Clock } from "../shared/ports.ts"
import { afterRestart, LEASE_MS, leaseAt } from "./session.ts"
import type { Sockets } from "./sockets.ts"
import type { AssignmentRow, NodeRow, NodeStore } from "./store.ts"

export interface LeaseParts {
  readonly store: NodeStore
  readonly sockets: Sockets
  readonly clock: Clock
  readonly alarms: () => Alarms
  /** The node is marked as away; what becomes of its runs is the caller's. */
  readonly lapsed: () => void
}

export class Lease {
  readonly #parts: LeaseParts
  #heardMs: number | null = null

  constructor(parts: LeaseParts) {
    this.#parts = parts
  }

  /** The node said something. */
  heard(): void {
    this.#heardMs = this.#parts.clock.now()
  }

  lastSeen(node: NodeRow): number | null {
    const times = [node.last_seen_ms, this.#heardMs, this.#parts.sockets.heartbeatMs()].filter((time) => time !== null)
    return times.length === 0 ? null : Math.max(...times)
  }

  armFor(rows: readonly AssignmentRow[]): void {
    if (rows.some((row) => !row.ended)) this.#arm()
  }

  /** The node is back, perhaps with runs that it kept while it had no lease. */
  resume(): void {
    if (this.#parts.store.hasLive()) this.#arm()
  }

  #arm(): void {
    const { store, clock, alarms } = this.#parts
    const node = store.node()
    if (!node || node.lease_until_ms !== null || node.forgotten) return
    const lease_until_ms = clock.now() + LEASE_MS
    store.updateNode({ lease_until_ms })
    alarms().atLatest(lease_until_ms)
  }

  /** At an alarm, whosever it was. */
  check(): void {
    const { store, clock, lapsed } = this.#parts
    const node = store.node()
    if (!node || node.lease_until_ms === null || node.lease_until_ms > clock.now()) return
    if (!store.hasLive()) return store.updateNode({ lease_until_ms: null })
    const verdict = leaseAt(clock.now(), { lastSeenMs: this.lastSeen(node), leaseUntilMs: node.lease_until_ms })
    switch (verdict.kind) {
      case "holds":
      case "extended":
        return store.updateNode({ lease_until_ms: verdict.untilMs })
      case "lapsed":
        store.updateNode({ lease_until_ms: null, connected: false, last_seen_ms: this.lastSeen(node), cell_due: true })
        return lapsed()
    }
  }

  /** A socket that vanished without being closed went down with the platform: the node had no way to renew its lease. */
  noticeRestart(): void {
    const { store, sockets, clock } = this.#parts
    const node = store.node()
    if (!node?.connected || sockets.current() !== undefined) return
    const lease_until_ms = node.lease_until_ms === null ? null : afterRestart(clock.now())
    store.updateNode({ connected: false, cell_due: true, lease_until_ms })
  }
}
