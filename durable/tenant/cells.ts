/**
 * Which of a tenant's cells a run asks next: of two taken at random, the one with more room. Two are enough to keep cells even,
 * and what a cell said some seconds ago is good enough for a first guess; one that is full says so itself.
 */
import type { Room } from "../../schema/api.ts"
import type { CellId } from "../../schema/ids.ts"
import type { Clock, Peers } from "../shared/ports.ts"

/** How long a cell's word on its room is believed. */
const FRESH_MS = 5_000

/** The scarcer of processors and memory, as the share of it that is free. */
export const freeShare = (room: Room): number =>
  room.ready_nodes === 0 ? 0 : Math.min(shareOf(room.free_cpus, room.cpus), shareOf(room.free_memory_bytes, room.memory_bytes))

const shareOf = (free: number, all: number) => (all <= 0 ? 0 : Math.max(0, free / all))

/** Two different ones of `cells`, or all when there are fewer; `random` is any whole number. */
export function twoOf(cells: readonly CellId[], random: number): CellId[] {
  const n = cells.length
  if (n <= 2) return [...cells]
  const first = random % n
  const second = (first + 1 + (Math.floor(random / n) % (n - 1))) % n
  return [first, second].flatMap((at) => cells[at] ?? [])
}

const better = ([a, b]: readonly CellId[], [ofA = -1, ofB = -1]: readonly number[]) => (ofB > ofA ? b : a)

export class Cells {
  readonly #peers: Peers
  readonly #clock: Clock
  readonly #random: () => number
  readonly #known = new Map<CellId, { readonly share: number; readonly untilMs: number }>()

  constructor(peers: Peers, clock: Clock, random: () => number) {
    this.#peers = peers
    this.#clock = clock
    this.#random = random
  }

  /** Undefined when there is none to choose from. One that says nothing of its room comes last. */
  async choose(cells: readonly CellId[]): Promise<CellId | undefined> {
    const two = twoOf(cells, this.#random())
    if (two.length < 2) return two[0]
    return better(two, await Promise.all(two.map((cell) => this.#shareOf(cell))))
  }

  /** The same from memory; undefined as well when that would not do. */
  chooseNow(cells: readonly CellId[]): CellId | undefined {
    const two = twoOf(cells, this.#random())
    if (two.length < 2) return two[0]
    const shares = two.flatMap((cell) => this.#fresh(cell) ?? [])
    return shares.length < two.length ? undefined : better(two, shares)
  }

  #fresh(cell: CellId): number | undefined {
    const known = this.#known.get(cell)
    return known && known.untilMs > this.#clock.now() ? known.share : undefined
  }

  async #shareOf(cell: CellId): Promise<number> {
    const fresh = this.#fresh(cell)
    if (fresh !== undefined) return fresh
    const share = await this.#peers
      .cell(cell)
      .room()
      .then(freeShare, () => -1)
    this.#known.set(cell, { share, untilMs: this.#clock.now() + FRESH_MS })
    return share
  }
}
