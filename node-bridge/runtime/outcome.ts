/**
 * How a run stands, from what the host shows of it. Pure: the shell looks, this decides.
 *
 * The monitor must be looked at before its exit file: it writes the file and then ends, so "monitor dead, no file" read in
 * that order means that the code is lost.
 */
import { constants } from "node:os"
import type { Reason } from "../../schema/protocol.ts"

export interface Sighting {
  readonly sameBoot: boolean
  /** Started: the runtime let its process go. */
  readonly started: boolean
  readonly initAlive: boolean
  readonly monitorAlive: boolean
  readonly exitFile: { readonly text: string; readonly mtimeMs: number } | null
}

export type Standing =
  | { readonly kind: "not_started" }
  | { readonly kind: "running" }
  /** Its process lives and nobody would learn of its end: kill it, then look again. */
  | { readonly kind: "unwatched" }
  | { readonly kind: "ended"; readonly code: number | null; readonly finishedAtMs: number | null; readonly fault: Reason | null }

const MONITOR_LOST: Reason = {
  code: "monitor_lost",
  message: "The process that watched the container on its host was killed; the container was stopped and its exit code is lost.",
}
const HOST_REBOOTED: Reason = { code: "host_rebooted", message: "The container's host restarted." }

export function standingOf(sighting: Sighting): Standing {
  const code = sighting.exitFile === null ? null : parseExitCode(sighting.exitFile.text)
  if (!sighting.started) return { kind: "not_started" }
  // An exit file that is still empty is being written by a monitor that lives.
  if (sighting.exitFile !== null && (code !== null || !sighting.monitorAlive)) {
    return { kind: "ended", code, finishedAtMs: sighting.exitFile.mtimeMs, fault: code === null ? MONITOR_LOST : null }
  }
  if (!sighting.sameBoot) return { kind: "ended", code: null, finishedAtMs: null, fault: HOST_REBOOTED }
  if (sighting.monitorAlive) return { kind: "running" }
  if (sighting.initAlive) return { kind: "unwatched" }
  return { kind: "ended", code: null, finishedAtMs: null, fault: MONITOR_LOST }
}

function parseExitCode(text: string): number | null {
  return /^\d{1,3}$/.test(text.trim()) ? Number(text) : null
}

const SIGNAL_BASE = 128
const SIGNAL_NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]))

/** The signal that ended a process, as far as a code in the shell's convention can say; null for an exit by itself. */
export function signalOf(code: number | null): string | null {
  return code === null || code <= SIGNAL_BASE ? null : (SIGNAL_NAMES.get(code - SIGNAL_BASE) ?? null)
}

/** A child may be killed for memory while the container goes on and exits well: both signs are needed. */
export const wasOomKilled = (code: number | null, oomKills: number | null): boolean =>
  code === SIGNAL_BASE + constants.signals.SIGKILL && (oomKills ?? 0) > 0
