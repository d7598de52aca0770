/** What a seed chooses: who is struck, when, and how. The same seed always chooses the same. */
import { constantFrom, double, infiniteStream, nat, record, sample, shuffledSubarray } from "fast-check"

export interface Plan {
  /** Hosts by their part: the one that is cut off, the one whose bridge is stopped, and the one that is left. */
  readonly cut: number
  readonly stopped: number
  readonly left: number
  /** After which share of the first creates. */
  readonly workerdAt: number
  readonly bridgeAt: number
  /** How far the clock of the host that is cut off is ahead. */
  readonly aheadMs: number
  /** So many of them. */
  pick<T>(from: readonly T[], count: number): T[]
}

const share = double({ min: 0.1, max: 0.9, noNaN: true })
const parts = record({
  hosts: shuffledSubarray([0, 1, 2], { minLength: 3 }),
  workerdAt: share,
  bridgeAt: share,
  aheadMs: constantFrom(-25_000, 25_000),
  choices: infiniteStream(nat()),
})

export function planOf(seed: number): Plan {
  const [chosen] = sample(parts, { seed, numRuns: 1 })
  if (chosen === undefined) throw new Error("a sample of one has one")
  const { hosts, workerdAt, bridgeAt, aheadMs, choices } = chosen
  const [cut = 0, stopped = 1, left = 2] = hosts
  const pick: Plan["pick"] = (from, count) => {
    const rest = [...from]
    const one = () => rest.splice(choices.next().value % rest.length, 1)
    return Array.from({ length: Math.min(count, rest.length) }, one).flat()
  }
  return { cut, stopped, left, workerdAt, bridgeAt, aheadMs, pick }
}
