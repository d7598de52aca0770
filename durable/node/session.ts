/**
 * The rules of a node's session and lease, without socket, clock or storage.
 *
 * The lease answers one question: may these runs still be running there? It is renewed by every heartbeat, which runs no
 * code, so it is looked at only when its alarm goes off. That makes two cases in which its end proves nothing about the node:
 * the alarm itself comes late, or the socket vanished without being closed. In both the platform was down and no node could
 * have renewed anything, so the lease gets a full term more. Without that, one restart would orphan every run there is.
 */
import { HEARTBEAT_SECONDS, LEASE_SECONDS, MAX_TEXT_MESSAGE_BYTES } from "../../schema/protocol.ts"

export const LEASE_MS = LEASE_SECONDS * 1000
/** An alarm this late was not late by chance: the platform was not there to deliver it. */
export const LATE_ALARM_MS = 2_000
/** A node that missed this many heartbeats is given nothing new, though its lease lasts. */
const STALE_AFTER_HEARTBEATS = 3

export interface Freshness {
  /** When the node was last heard, by whichever way; null before its first session. */
  readonly lastSeenMs: number | null
  /** The lease's end as it was last armed; null when it was not. */
  readonly leaseUntilMs: number | null
}

export type LeaseVerdict =
  | { readonly kind: "holds"; readonly untilMs: number }
  /** The platform was away: a full term from now. */
  | { readonly kind: "extended"; readonly untilMs: number }
  | { readonly kind: "lapsed" }

export function leaseAt(now: number, { lastSeenMs, leaseUntilMs }: Freshness): LeaseVerdict {
  const untilMs = Math.max(leaseUntilMs ?? now + LEASE_MS, (lastSeenMs ?? 0) + LEASE_MS)
  if (untilMs > now) return { kind: "holds", untilMs }
  if (leaseUntilMs !== null && now - leaseUntilMs > LATE_ALARM_MS) return { kind: "extended", untilMs: now + LEASE_MS }
  return { kind: "lapsed" }
}

/** The object woke up without the socket that it believed to hold. */
export const afterRestart = (now: number): number => now + LEASE_MS

export const isFresh = (now: number, lastSeenMs: number | null) =>
  lastSeenMs !== null && now - lastSeenMs <= STALE_AFTER_HEARTBEATS * HEARTBEAT_SECONDS * 1000

export type Phase = "new" | "greeting" | "open"

/** What may be said in each phase of a session; everything else is a protocol error. */
export function mayReceive(phase: Phase, type: string): boolean {
  switch (phase) {
    case "new":
      return type === "hello"
    case "greeting":
    case "open":
      return type !== "hello"
  }
}

/** What a node may say without being asked, in units of 4 KiB or one small message each: at once, and each second again. */
const BURST_UNITS = 5_000
const UNITS_PER_SECOND = 1_000
const UNIT_CHARACTERS = 4_096
/** What is stored and told to the cell. */
const COSTLY_UNITS = 50

/** What is left of it, and when that was counted. In memory alone: a node that floods keeps its object awake. */
export interface Budget {
  readonly units: number
  readonly atMs: number
}

export const fullBudget = (now: number): Budget => ({ units: BURST_UNITS, atMs: now })

/** What a message of this type and so many characters takes. */
export const costOf = (type: string, characters: number): number =>
  (type === "facts" || type === "condition" ? COSTLY_UNITS : 1) + Math.floor(characters / UNIT_CHARACTERS)

/** What is left after so many units; undefined when they were too many. */
export function spend(budget: Budget, cost: number, now: number): Budget | undefined {
  const earned = (Math.max(0, now - budget.atMs) * UNITS_PER_SECOND) / 1000
  const units = Math.min(BURST_UNITS, budget.units + earned) - cost
  return units < 0 ? undefined : { units, atMs: now }
}

/** One node's, over all of its sessions. */
export class Allowance {
  #budget: Budget | null = null

  /** False when the node may not say so much now. */
  take(cost: number, now: number): boolean {
    const left = spend(this.#budget ?? fullBudget(now), cost, now)
    if (left) this.#budget = left
    return left !== undefined
  }
}

/** A message's characters may take three bytes each, and its peer takes `MAX_TEXT_MESSAGE_BYTES`. */
export const MAX_PART_CHARACTERS = MAX_TEXT_MESSAGE_BYTES / 4

/** A set in parts of at most `most` items and about `MAX_PART_CHARACTERS`; an empty set is one empty part. */
export function inParts<T>(all: readonly T[], most: number, sizeOf: (item: T) => number): { items: T[]; more: boolean }[] {
  const parts: T[][] = [[]]
  let size = 0
  for (const item of all) {
    const last = parts.at(-1) ?? []
    const itemSize = sizeOf(item)
    size += itemSize
    if (last.length > 0 && (last.length >= most || size > MAX_PART_CHARACTERS)) {
      parts.push([item])
      size = itemSize
    } else last.push(item)
  }
  return parts.map((items, i) => ({ items, more: i + 1 < parts.length }))
}
