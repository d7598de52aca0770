import { assert, array, constantFrom, integer, oneof, property, tuple } from "fast-check"
import { describe, expect, it } from "vitest"
import { formatIpv4 } from "../../../node-bridge/network/addresses.ts"
import * as egress from "../../../node-bridge/network/egress.ts"
import { isPrivate, PRIVATE_NETWORKS } from "../../../schema/private-networks.ts"

const closed = PRIVATE_NETWORKS.map(egress.spanOf)
const network = tuple(integer({ min: 0, max: 0xffffffff }), integer({ min: 0, max: 32 })).map(
  ([address, prefix]) => `${formatIpv4(address)}/${prefix}`,
)

describe("a list of networks", () => {
  it("becomes ranges in order that neither overlap nor touch, and hold the same addresses", () => {
    assert(
      property(array(network, { maxLength: 12 }), integer({ min: 0, max: 0xffffffff }), (list, address) => {
        const spans = egress.spansOf(list)
        for (const [index, span] of spans.entries()) {
          expect(span.first).toBeLessThanOrEqual(span.last)
          const before = spans[index - 1]
          if (before) expect(span.first).toBeGreaterThan(before.last + 1)
        }
        for (const probe of [address, ...list.map((cidr) => egress.spanOf(cidr).last)])
          expect(egress.contains(spans, probe)).toBe(egress.contains(list.map(egress.spanOf), probe))
      }),
    )
  })

  it("is written back as the fewest networks, and read again as the same ranges", () => {
    assert(
      property(array(network, { minLength: 1, maxLength: 8 }), (list) => {
        const spans = egress.spansOf(list)
        expect(egress.spansOf(spans.flatMap(egress.networksOf))).toEqual(spans)
      }),
    )
    expect(egress.spansOf(["10.0.0.0/9", "10.128.0.0/9"]).flatMap(egress.networksOf)).toEqual(["10.0.0.0/8"])
    expect(egress.spansOf(["0.0.0.0/0"]).flatMap(egress.networksOf)).toEqual(["0.0.0.0/0"])
    expect(egress.networksOf({ first: 1, last: 2 })).toEqual(["0.0.0.1/32", "0.0.0.2/32"])
  })

  it("is refused where it lies wholly in what is closed, as one network or several that touch", () => {
    expect(egress.whollyClosed(["169.254.169.254/32", "203.0.113.0/24", "10.0.0.0/8"], closed)).toEqual(["169.254.169.254/32", "10.0.0.0/8"]) // prettier-ignore
    expect(egress.whollyClosed(["203.0.112.0/23"], [...closed, egress.spanOf("203.0.112.0/24"), egress.spanOf("203.0.113.0/24")])).toHaveLength(1) // prettier-ignore
    for (const word of ["open", "none"] as const) expect(egress.whollyClosed(word, closed)).toEqual([])
    expect(egress.whollyClosed(["0.0.0.0/0", "172.0.0.0/8"], closed)).toEqual([])
  })

  it("is refused by the API where its node would refuse it, by what no node may reach", () => {
    const near = constantFrom(...PRIVATE_NETWORKS).chain((cidr) => {
      const { first, last } = egress.spanOf(cidr)
      return tuple(integer({ min: first - 1, max: last + 1 }), integer({ min: 1, max: 32 }))
    })
    const ranges = oneof(
      network,
      near.map(([address, prefix]) => `${formatIpv4(address)}/${prefix}`),
    )
    assert(
      property(ranges, (cidr) => {
        expect(isPrivate(cidr)).toBe(egress.whollyClosed([cidr], closed).length === 1)
      }),
    )
    for (const cidr of ["10.0.0.0/8", "169.254.169.254/32", "172.31.255.255/12", "255.255.255.255/32"])
      expect(isPrivate(cidr)).toBe(true)
    for (const cidr of ["0.0.0.0/0", "10.0.0.0/7", "172.32.0.0/12", "192.0.2.0/24"]) expect(isPrivate(cidr)).toBe(false)
  })

  it("throws on what is none", () => {
    for (const text of ["", "1.2.3.4", "1.2.3.4/33", "1.2.3/8", "a/8"]) expect(() => egress.spanOf(text)).toThrow(`"${text}"`)
  })
})
