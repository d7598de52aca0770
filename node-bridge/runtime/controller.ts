/**
 * The seam between the agent, which decides, and the host, which does. The agent calls these verbs one at a time per run.
 * Every verb is idempotent: already done is success, and each may be called again after a crash at any line.
 *
 * Two controllers ship: `oci-controller.ts` runs real containers; `fake-controller.ts` has knobs and runs nothing.
 */
import type { RunId } from "../../schema/ids.ts"
import type { Isolation } from "../../schema/isolation.ts"
import type { SignalName } from "../../schema/container.ts"
import type { Assignment, Condition, Exit, LogEntry, LogOptions, Notice, Reason, Timings } from "../../schema/protocol.ts"
import type { Network } from "../../schema/container.ts"
import type { Device, ProfileOffer } from "../../schema/node.ts"

/** Why a verb failed, in words a tenant may read. `retryable`: the same verb may succeed in a moment on this node. */
export class ControllerError extends Error {
  readonly reason: Reason
  readonly retryable: boolean
  /** What a shell would exit with for the same fault (127: no such command, 126: cannot be run); null: not the process's. */
  readonly exitCode: number | null
  constructor(code: string, message: string, options: { retryable?: boolean; cause?: unknown; exitCode?: number | null } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = "ControllerError"
    this.reason = { code, message: message.slice(0, 2048) }
    this.retryable = options.retryable ?? false
    this.exitCode = options.exitCode ?? null
  }
}

export interface Prepared {
  /** The digest of the image as its registry names it. */
  readonly image_digest: string
  readonly timings: Timings
}

export interface Started {
  readonly started_at_ms: number
  readonly timings: Timings
}

/** What is true of a run on this host now. */
export type Inspection =
  | { readonly kind: "absent" } // nothing of it, or leftovers that `remove` clears
  | { readonly kind: "prepared" } // ready for `start`
  | { readonly kind: "running"; readonly paused: boolean; readonly started_at_ms: number }
  | { readonly kind: "exited"; readonly outcome: Outcome }

/** The end of a run's process as the host saw it; the agent adds by whose doing. */
export interface Outcome {
  readonly exit: Omit<Exit, "by">
  readonly finished_at_ms: number
  /** Set when the host, not the process, ended it (its monitor was killed, the machine restarted). */
  readonly host_fault: Reason | null
}

export interface HostListener {
  /**
   * Once per happening: the agent keeps it until the platform has it, and ends the run where the happening calls for it
   * (`agent/notices.ts`). A bridge that takes a run over tells again what still holds.
   */
  notice(notice: Omit<Notice, "id">): void
  /** `devices` changed. */
  facts(): void
  /** `condition` changed. */
  condition(): void
}

export interface Controller {
  /** Profiles whose self-test ran on this host, with what was seen to work. */
  readonly profiles: readonly ProfileOffer[]
  /** The devices of this host as they are now; `listen` tells when they change. */
  readonly devices: readonly Device[]
  /** Whether this host takes new runs now, and if not, why; `listen` tells when it changes. */
  readonly condition: Condition
  /** The most open files that a process here can be given. */
  readonly maxOpenFiles: number
  /** Versions to report: kernel, crun, runc, conmon, … */
  readonly versions: Readonly<Record<string, string>>

  /** A run is on its way here: what its start would wait for may begin. Never fails, and never waits. */
  expect(): void
  /** Makes image, root, namespaces and bundle ready. Throws `ControllerError`, or the signal's reason when aborted. */
  prepare(run: Assignment, signal: AbortSignal): Promise<Prepared>
  /** Creates and starts the process. After it threw, `remove` leaves nothing behind. */
  start(run: Assignment): Promise<Started>
  inspect(runId: RunId): Promise<Inspection>
  /** Resolves when the process has ended; at once when it has already. Rejects when aborted. */
  wait(runId: RunId, signal: AbortSignal): Promise<Outcome>
  /** Sends a signal to the run's first process; a run that has ended is success. */
  signal(runId: RunId, signal: SignalName): Promise<void>
  pause(runId: RunId): Promise<void>
  unpause(runId: RunId): Promise<void>
  /** Changes the network limits of a live run in place; one that has ended is success. */
  setNetwork(runId: RunId, network: Network): Promise<void>
  /** The image's STOPSIGNAL, when the run is prepared and it has one that we know. */
  stopSignal(runId: RunId): Promise<SignalName | null>
  /** Frees the process, cgroup, mounts, network and root of a run that has ended (kills it if need be), keeping its log. */
  release(runId: RunId): Promise<void>
  /** `release`, and the log too: nothing of the run is left. */
  remove(runId: RunId): Promise<void>
  /** Every run of which anything is on this host, whether the journal knows it or not. */
  list(): Promise<RunId[]>

  /** Log lines of one run, oldest first; with `follow` until the run has ended and all was read, or the signal aborts. */
  logs(runId: RunId, options: LogOptions, signal: AbortSignal): AsyncIterable<LogEntry>
  /** Reads back what the kernel enforces on a running run. */
  isolation(runId: RunId): Promise<Isolation>

  /** What happens to runs or the host without being asked. One listener; returns what takes it off. */
  listen(listener: HostListener): () => void

  /** Makes a container of the host's own, runs it and takes it down again. Throws what failed. */
  probe(): Promise<void>

  /** Work to do now and then: collect images, rotate logs, refill pools. Never throws. */
  maintain(liveImages: ReadonlySet<string>): Promise<void>
  /** Closes what this process holds; running containers are left as they are. */
  close(): Promise<void>
}

export const notRunning = () => new ControllerError("not_running", "The container is not running.")
