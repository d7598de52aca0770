import { describe, expect, it } from "vitest"
import { hashOf, type NodeState, type TrackRecord } from "../../../durable/cell/node-state.ts"
import { scoreOf, scoresOf } from "../../../durable/cell/scorers.ts"
import { failuresAt, NO_RECORD, withFailures, withImage } from "../../../durable/cell/track-record.ts"
import type { ReservationRow } from "../../../durable/cell/store.ts"
import { SCORERS, type Weights } from "../../../schema/api.ts"
import { GIB } from "../../support/factories.ts"
import { aLedgerOf, anAsk, aSearch, book } from "../../support/cell.ts"

const NONE: Weights = { spread: 0, bin_pack: 0, balance: 0, image: 0, failures: 0 }
const MINUTE = 60_000

function score(name: keyof Weights, holds: Partial<ReservationRow>, record: TrackRecord = NO_RECORD, now = 0): number {
  const { ledger, nodes } = aLedgerOf({})
  const node = nodes[0] as NodeState
  book(ledger, node.id, holds)
  ledger.setRecord(node.id, record)
  const search = aSearch(ledger, anAsk(), { ...NONE, [name]: 1 }, now)
  return scoreOf(node, search.ask, search.scorers)
}

describe("the score", () => {
  // The node has 4 processors and 8 GiB; the run asks for 1 and 1.
  it.each([
    ["spread", {}, 1 - (1 / 4 + 1 / 8) / 2],
    ["spread", { cpus: 3, memory_bytes: 7 * GIB }, 0],
    ["bin_pack", {}, (1 / 4 + 1 / 8) / 2],
    ["bin_pack", { cpus: 3, memory_bytes: 7 * GIB }, 1],
    ["balance", {}, 1 - 1 / 8],
    ["balance", { memory_bytes: 1 * GIB }, 1],
    ["balance", { memory_bytes: 7 * GIB }, 1 / 4],
    ["image", {}, 0],
    ["failures", {}, 1],
  ] as [keyof Weights, Partial<ReservationRow>, number][])("%s of a node that holds %o is %d", (name, holds, expected) => {
    expect(score(name, holds)).toBeCloseTo(expected, 10)
  })

  it("image is for nodes that have run it, and counts the more the more of them there are", () => {
    expect(score("image", {}, withImage(NO_RECORD, hashOf("app:1")))).toBe(1 / 8)
    expect(score("image", {}, withImage(NO_RECORD, hashOf("app:2")))).toBe(0)
    const { ledger, nodes } = aLedgerOf(...Array.from({ length: 12 }, () => ({})))
    const imageScore = (node: NodeState) => scoresOf(node, aSearch(ledger, anAsk()).ask).image
    for (const { id } of nodes.slice(1)) ledger.setRecord(id, withImage(NO_RECORD, hashOf("app:1")))
    expect(nodes.slice(0, 2).map(imageScore)).toEqual([0, 1])
    for (const { id } of nodes.slice(3)) ledger.forget(id)
    expect(nodes.slice(0, 2).map(imageScore)).toEqual([0, 2 / 8])
  })

  it("failures falls with each one, and comes back by halves", () => {
    const once = withFailures(NO_RECORD, 1, 0)
    expect(score("failures", {}, once)).toBe(1 / 2)
    expect(score("failures", {}, withFailures(once, 2, 0))).toBe(1 / 4)
    expect(score("failures", {}, once, 10 * MINUTE)).toBeCloseTo(1 / 1.5, 10)
    expect(score("failures", {}, once, 24 * 60 * MINUTE)).toBe(1)
  })

  it("is the sum of all scorers' parts by their weights", () => {
    const { ledger, nodes } = aLedgerOf({})
    const node = nodes[0] as NodeState
    const parts = SCORERS.map((name) => score(name, {}) * (name === "image" ? 10 : 2))
    const weights: Weights = { spread: 2, bin_pack: 2, balance: 2, image: 10, failures: 2 }
    const search = aSearch(ledger, anAsk(), weights)
    expect(scoreOf(node, search.ask, search.scorers)).toBeCloseTo(
      parts.reduce((a, b) => a + b),
      10,
    )
  })
})

describe("a track record", () => {
  it("forgets the images that came first, and is the same for one that it knows", () => {
    const full = Array.from({ length: 20 }, (_, i) => i).reduce(withImage, NO_RECORD)
    expect(full.images).toEqual(Array.from({ length: 16 }, (_, i) => i + 4))
    expect(withImage(full, 4)).toBe(full)
  })

  it("adds failures to what is left of earlier ones", () => {
    const later = withFailures(withFailures(NO_RECORD, 2, 0), 1, 10 * MINUTE)
    expect(failuresAt(later, 10 * MINUTE)).toBeCloseTo(2, 10)
    expect(failuresAt(later, 20 * MINUTE)).toBeCloseTo(1, 10)
  })

  it("does not fall back when the clock does", () => {
    expect(failuresAt(withFailures(NO_RECORD, 1, 5000), 0)).toBe(1)
  })
})
