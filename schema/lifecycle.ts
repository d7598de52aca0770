/**
 * The lifecycle in one place: two records, one status. A *container* holds the wish (`desired`); a *run* is one attempt on
 * one node. What a tenant sees is a pure function of both, `publicStatus`.
 *
 * Properties, each a unit test:
 *  1. A run's state only rises in rank.
 *  2. Every live state has one owner. The one exception is `lease`: it may orphan any run that a node holds, which is safe
 *     because `orphaned` outranks every other state and the run id fences whatever the node says later.
 *  3. A terminal state has no way out.
 */

/** Rank rises with progress, like a Lamport clock: of two observations of one run the greater is true. Gaps leave room. */
export const RUN_STATES = {
  pending: 0, placed: 10, accepted: 20, preparing: 30, ready: 40, starting: 50, running: 60,
  completed: 70, failed: 80, rejected: 90, stopped: 100, orphaned: 110,
} as const // prettier-ignore
export type RunState = keyof typeof RUN_STATES
export const ALL_RUN_STATES = Object.keys(RUN_STATES) as [RunState, ...RunState[]]

/**
 * completed: exited with 0. failed: ran, or tried to, and did not end well. rejected: never came as far as starting
 * (no image, say). stopped: ended because it was told to. orphaned: given up by the control plane; its node must destroy it.
 */
export const TERMINAL_STATES = ["completed", "failed", "rejected", "stopped", "orphaned"] as const satisfies RunState[]
export type TerminalState = (typeof TERMINAL_STATES)[number]
export const isTerminal = (state: RunState): state is TerminalState => (TERMINAL_STATES as readonly string[]).includes(state)

export type Owner = "placement" | "node" | "lease"

/** Who may move a run, and where. A report may skip steps that were coalesced: any path through the owner's edges counts. */
export const TRANSITIONS = {
  placement: [
    ["pending", "placed"],
    ["pending", "stopped"],
    ["pending", "rejected"],
  ],
  node: [
    ["placed", "accepted"], ["placed", "rejected"], ["placed", "stopped"],
    ["accepted", "preparing"], ["accepted", "rejected"], ["accepted", "stopped"],
    ["preparing", "ready"], ["preparing", "rejected"], ["preparing", "stopped"],
    ["ready", "starting"], ["ready", "rejected"], ["ready", "stopped"],
    ["starting", "running"], ["starting", "failed"], ["starting", "stopped"],
    ["running", "completed"], ["running", "failed"], ["running", "stopped"],
  ],
  lease: [
    ["placed", "orphaned"], ["accepted", "orphaned"], ["preparing", "orphaned"], ["ready", "orphaned"],
    ["starting", "orphaned"], ["running", "orphaned"],
  ],
} as const satisfies Record<Owner, readonly (readonly [RunState, RunState])[]> // prettier-ignore

/** True when `owner` may take a run from `from` to `to`, in one step or through states that it also owns. */
export function mayMove(owner: Owner, from: RunState, to: RunState): boolean {
  const edges: readonly (readonly [RunState, RunState])[] = TRANSITIONS[owner]
  return edges.some(([a, b]) => a === from && (b === to || mayMove(owner, b, to)))
}

export interface Stamp {
  readonly state: RunState
  /** Rises with every change a node makes to its record of the run; orders reports of equal rank (paused, unpaused). */
  readonly revision: number
}

/** True when `next` tells more than `known` about the same run. */
export function supersedes(next: Stamp, known: Stamp): boolean {
  const rise = RUN_STATES[next.state] - RUN_STATES[known.state]
  return rise > 0 || (rise === 0 && !isTerminal(known.state) && next.revision > known.revision)
}

export const DESIRED = ["running", "stopped", "removed"] as const
export type Desired = (typeof DESIRED)[number]

export const STATUSES = [
  "created", "scheduling", "pulling", "starting", "running", "paused", "stopping", "exited", "lost", "removed",
] as const // prettier-ignore
export type Status = (typeof STATUSES)[number]

export const ACTIONS = ["start", "stop", "restart", "kill", "pause", "unpause", "remove"] as const
export type Action = (typeof ACTIONS)[number]

/** What may be done to a container in each status. `remove` here is the plain one; `force` removes from any status. */
export const ALLOWED_ACTIONS = {
  created: ["start", "remove"],
  scheduling: ["stop", "restart", "kill"],
  pulling: ["stop", "restart", "kill"],
  starting: ["stop", "restart", "kill"],
  running: ["stop", "restart", "kill", "pause"],
  paused: ["unpause", "stop", "restart", "kill"],
  stopping: ["kill"],
  exited: ["start", "restart", "remove"],
  lost: ["start", "restart", "remove"],
  removed: [],
} as const satisfies Record<Status, readonly Action[]>

/** How long a run may stay in a state before it is given up and placed anew. `pending` waits for capacity without end. */
export const STATE_DEADLINES_MS = {
  placed: 30_000, // a connected node accepts within milliseconds; one that is away has its lease as well
  accepted: 30_000,
  preparing: 900_000, // the pull: skopeo's own deadline is shorter, so that the tenant reads its error instead
  ready: 60_000,
  starting: 60_000,
} as const satisfies Partial<Record<RunState, number>>

/** A stop may take the container's own timeout and this much more to kill and clean up. */
export const STOP_MARGIN_MS = 30_000

export interface WishView {
  readonly desired: Desired
  readonly desiredSinceMs: number
  readonly stopTimeoutSeconds: number
  /** When the restart policy will start the next run; null when it will not. */
  readonly nextRunAtMs: number | null
  /** A new run was asked for by `restart` and waits for the old one to end. */
  readonly restarting: boolean
}

export interface RunView {
  readonly state: RunState
  readonly sinceMs: number
  readonly paused: boolean
  /** False once the node has said that nothing of the run is left. */
  readonly present: boolean
  readonly reason: { readonly code: string; readonly message: string } | null
}

export interface PublicStatus {
  readonly status: Status
  readonly sinceMs: number
  readonly deadlineMs: number | null
  readonly reason: { readonly code: string; readonly message: string } | null
  readonly actions: readonly Action[]
}

/** The status a tenant sees, from the wish and its latest run. Total: every pair has an answer. */
export function publicStatus(wish: WishView, run: RunView | null): PublicStatus {
  const status = statusOf(wish, run)
  return {
    status,
    sinceMs: sinceOf(status, wish, run),
    deadlineMs: deadlineOf(status, wish, run),
    reason: reasonOf(status, wish, run),
    actions: ALLOWED_ACTIONS[status],
  }
}

function statusOf(wish: WishView, run: RunView | null): Status {
  if (wish.desired === "removed") return run?.present ? "stopping" : "removed"
  if (run === null) return wish.desired === "running" ? "scheduling" : "created"
  if (wish.desired === "stopped" && !isTerminal(run.state)) return "stopping"
  switch (run.state) {
    case "pending":
    case "placed":
      return "scheduling"
    case "accepted":
    case "preparing":
      return "pulling"
    case "ready":
    case "starting":
      return "starting"
    case "running":
      if (wish.restarting) return "stopping"
      return run.paused ? "paused" : "running"
    case "completed":
    case "failed":
    case "rejected":
    case "stopped":
      return wish.desired === "running" && wish.nextRunAtMs !== null ? "scheduling" : "exited"
    case "orphaned":
      return wish.desired === "running" && wish.nextRunAtMs !== null ? "scheduling" : "lost"
  }
}

function sinceOf(status: Status, wish: WishView, run: RunView | null): number {
  if (run === null || status === "stopping" || status === "removed") return wish.desiredSinceMs
  return run.sinceMs
}

function deadlineOf(status: Status, wish: WishView, run: RunView | null): number | null {
  if (status === "stopping") return wish.desiredSinceMs + wish.stopTimeoutSeconds * 1000 + STOP_MARGIN_MS
  if (run === null || isTerminal(run.state)) return status === "scheduling" ? wish.nextRunAtMs : null
  const limits: Partial<Record<RunState, number>> = STATE_DEADLINES_MS
  const limit = limits[run.state]
  return limit === undefined ? null : run.sinceMs + limit
}

function reasonOf(status: Status, wish: WishView, run: RunView | null): PublicStatus["reason"] {
  if (status === "scheduling" && wish.nextRunAtMs !== null) {
    const before = run?.reason ? ` The run before ended: ${run.reason.message}` : ""
    return { code: "restart_backoff", message: `Waits for its next start by the restart policy.${before}` }
  }
  return run?.reason ?? null
}
