/** Chance that a seed decides: the same seed gives the same throws, and each name a stream of its own. */

export class Dice {
  readonly seed: string
  #state: number

  constructor(seed: string) {
    this.seed = seed
    this.#state = hash(seed)
  }

  /** Throws of its own, that others' throws do not shift. */
  fork(name: string): Dice {
    return new Dice(`${this.seed}/${name}`)
  }

  /** In [0, 1). Mulberry32, by Tommy Ettinger. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** A whole number of [from, to). */
  between(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from))
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list[this.between(0, list.length)]
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h | 0
}
