/**
 * Whether each device may be given to a run, and to which it may not. Pure: from what is described, what was seen of it, who
 * has it, and what is yet to be scrubbed.
 */
import type { RunId } from "../../schema/ids.ts"
import type { Device } from "../../schema/node.ts"
import type { DescribedDevice } from "./inventory.ts"

/** A device is gone or failing once so many looks in a row say so: files are also rewritten, and drivers reset. */
export const LOOKS_TO_LOSE = 2

/** What the looks so far came to. */
export interface Seen {
  readonly badLooks: number
  /** Why the last look was bad; null: it was good. */
  readonly reason: string | null
}

export interface DeviceState {
  readonly described: ReadonlyMap<string, DescribedDevice>
  readonly seen: ReadonlyMap<string, Seen>
  readonly holders: ReadonlyMap<string, RunId>
  /** Used since its last scrub, with why the last try failed; null: none failed. */
  readonly dirty: ReadonlyMap<string, string | null>
}

const UNSEEN: Seen = { badLooks: LOOKS_TO_LOSE, reason: "it was not looked at yet" }

/** Of every device that is described, and of those that a run has though nothing describes them any more. */
export function devicesOf(state: DeviceState): Device[] {
  const names = new Set([...state.described.keys(), ...state.holders.keys()])
  return [...names].sort().map((name) => {
    const reason = trouble(name, state)
    return { name, healthy: reason === null, reason, parent: state.described.get(name)?.parent ?? null }
  })
}

function trouble(name: string, { described, seen, holders, dirty }: DeviceState): string | null {
  const device = described.get(name)
  if (device !== undefined && "refused" in device.plan) return device.plan.refused.slice(0, 256)
  const { badLooks, reason } = seen.get(name) ?? UNSEEN
  if (badLooks >= LOOKS_TO_LOSE && reason !== null) return reason.slice(0, 256)
  if (!dirty.has(name) || holders.has(name)) return null
  const failed = dirty.get(name)
  return failed == null ? "it is being scrubbed" : `it could not be scrubbed: ${failed}`.slice(0, 256)
}

/** Why a run cannot have this device now, as its tenant may read it, and whether waiting may help; null: it can. */
export function obstacle(
  runId: RunId,
  name: string,
  state: DeviceState,
): { readonly why: string; readonly passes: boolean } | null {
  const family = (other: string) =>
    other === name || state.described.get(other)?.parent === name || state.described.get(name)?.parent === other
  for (const [other, holder] of state.holders) {
    if (holder !== runId && family(other)) return { why: `${other} is in use.`, passes: true }
  }
  if (state.dirty.has(name) && !state.holders.has(name)) return { why: `${name} is being scrubbed.`, passes: true }
  if (!state.described.has(name)) return { why: `The node has no device ${name}.`, passes: false }
  return trouble(name, state) === null ? null : { why: `${name} is gone or fails.`, passes: false }
}
