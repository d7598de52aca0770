/**
 * Which devices of a node a run gets. Pure. A device goes to one run at a time; a part of a device excludes the whole, and
 * the whole its parts. The names are the node's own: what a node says of devices counts on that node alone.
 */
import type { AcceleratorRequest } from "../../schema/container.ts"
import type { Device } from "../../schema/node.ts"

interface Slot {
  readonly name: string
  readonly healthy: boolean
  /** Devices that cannot be in use beside this one: what it is a part of, and its parts. */
  readonly excludes: readonly string[]
}

/** A node's devices. */
export interface Shelf {
  readonly byName: ReadonlyMap<string, Slot>
  readonly byKind: ReadonlyMap<string, readonly Slot[]>
}

const EMPTY_SHELF: Shelf = { byName: new Map(), byKind: new Map() }
export const NO_DEVICES: readonly string[] = []

/** A part of a part of a device; deeper nesting is not known, and a node's word must not send us around in circles. */
const MAX_DEPTH = 4
const NO_SLOTS: readonly Slot[] = []
/** Ways tried to satisfy requests that name alternatives. Eight requests of eight could be combined in millions. */
const MAX_TRIES = 64

const kindOf = (name: string) => name.slice(0, name.indexOf("="))

export function shelfOf(devices: readonly Device[]): Shelf {
  if (devices.length === 0) return EMPTY_SHELF
  const byName = new Map(devices.map((device) => [device.name, device]))
  const excludes = new Map<string, Set<string>>(devices.map(({ name }) => [name, new Set()]))
  for (const { name, parent } of byName.values()) {
    for (let whole = parent, depth = 0; whole !== null && depth < MAX_DEPTH; depth++) {
      if (whole !== name) excludes.get(name)?.add(whole)
      if (whole !== name) excludes.get(whole)?.add(name)
      whole = byName.get(whole)?.parent ?? null
    }
  }
  const slots = [...byName.values()].map(({ name, healthy }) => ({ name, healthy, excludes: [...(excludes.get(name) ?? [])] }))
  return {
    byName: new Map(slots.map((slot) => [slot.name, slot])),
    byKind: Map.groupBy(slots, (slot) => kindOf(slot.name)),
  }
}

/** The devices for all requests, in their order; undefined when they cannot be had together. */
export function chooseDevices(
  shelf: Shelf,
  taken: ReadonlySet<string>,
  requests: readonly AcceleratorRequest[],
): readonly string[] | undefined {
  if (requests.length === 0) return NO_DEVICES
  const used = new Set(taken)
  const chosen: string[][] = requests.map(() => [])
  // Those without a choice first: one that has alternatives must not take the only device that another can use.
  const order = requests.map((_, i) => i).toSorted((a, b) => choices(requests[a]).length - choices(requests[b]).length)
  let tries = 0
  const solve = (step: number): boolean => {
    const at = order[step]
    if (at === undefined) return true
    for (const { kind, count } of choices(requests[at])) {
      if (++tries > MAX_TRIES) return false
      const names = pick(shelf, kind, count, used)
      if (names === undefined) continue
      chosen[at] = names
      if (solve(step + 1)) return true
      for (const name of names) used.delete(name)
    }
    return false
  }
  return solve(0) ? chosen.flat() : undefined
}

/** Why `chooseDevices` found none, without a word about the node. */
export function shortage(shelf: Shelf, taken: ReadonlySet<string>, requests: readonly AcceleratorRequest[]): string {
  const short = requests.find((request) => chooseDevices(shelf, taken, [request]) === undefined)
  return tooFew(short ? [short] : requests)
}

export const tooFew = (requests: readonly AcceleratorRequest[]): string =>
  `has too few ${[...new Set(requests.map((request) => kindsOf(request).join(" or ")))].join(" and ")} free`

/** The kinds of which one will do. */
export const kindsOf = (request: AcceleratorRequest): string[] => choices(request).map(({ kind }) => kind)

/** The fewest devices that can meet the requests. */
export const fewestDevices = (requests: readonly AcceleratorRequest[]): number =>
  requests.reduce((sum, request) => sum + Math.min(...choices(request).map(({ count }) => count)), 0)

/** Devices that could be given away if nothing else hindered: healthy ones that no run holds. */
export function freeDevices(shelf: Shelf, taken: ReadonlySet<string>): number {
  let free = 0
  for (const slot of shelf.byName.values()) if (slot.healthy && !taken.has(slot.name)) free++
  return free
}

/** What a node offers now and, as failed ones, those that a run still holds though the node names them no longer. */
export function keepTaken(offered: readonly Device[], known: readonly Device[], taken: ReadonlySet<string>): Device[] {
  const names = new Set(offered.map((device) => device.name))
  const lost = known.filter((device) => taken.has(device.name) && !names.has(device.name))
  return [...offered, ...lost.map((device) => ({ ...device, healthy: false, reason: "is no longer there" }))]
}

const choices = (request: AcceleratorRequest | undefined) =>
  request === undefined ? [] : "kind" in request ? [request] : request.first_available

/** Takes so many of the slots out of `used`, or nothing. Those go first that keep the fewest others from being used. */
function pick(shelf: Shelf, kind: string, count: number, used: Set<string>): string[] | undefined {
  const slots = shelf.byKind.get(kind) ?? NO_SLOTS
  const names: string[] = []
  while (names.length < count) {
    const free = slots.filter((slot) => slot.healthy && !used.has(slot.name) && !slot.excludes.some((name) => used.has(name)))
    const best = leastSpoiling(shelf, free, used)
    if (best === undefined) break
    used.add(best.name)
    names.push(best.name)
  }
  if (names.length === count) return names
  for (const name of names) used.delete(name)
  return undefined
}

/** A part of a device that is in parts already spoils nothing more; a whole device spoils its parts. The first of equals. */
function leastSpoiling(shelf: Shelf, free: readonly Slot[], used: ReadonlySet<string>): Slot | undefined {
  const spoiled = new Set([...used].flatMap((name) => shelf.byName.get(name)?.excludes ?? []))
  let best: { slot: Slot; cost: number } | undefined
  for (const slot of free) {
    const cost = slot.excludes.reduce((sum, name) => sum + (spoiled.has(name) ? 0 : 1), 0)
    if (best === undefined || cost < best.cost) best = { slot, cost }
  }
  return best?.slot
}
