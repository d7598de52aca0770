import { describe, expect, it } from "vitest"
import { difference, elementText, elementsOf } from "../../../node-bridge/network/elements.ts"
import { egressOf, elementsNaming, rateOf } from "../../../node-bridge/network/in-force.ts"
import { shapeOf } from "../../../node-bridge/network/shape.ts"

const party = { address: "100.72.0.5", tenant: 3, run: 0xdeadbeef, egress: "open" } as const
const texts = (elements: ReturnType<typeof elementsOf>) => elements.map((one) => `${one.set} ${elementText(one)}`)

describe("what the packet filter knows of a container", () => {
  it("is whose it is, which connections are its own, and its egress", () => {
    const always = [
      "tenants 100.72.0.5 : 0x3",
      "peers 0x3 . 100.72.0.5",
      "runs 100.72.0.5 : 0xdeadbeef",
      "flows 0xdeadbeef . 100.72.0.5",
    ]
    expect(texts(elementsOf(party))).toEqual([...always, "open 100.72.0.5"])
    expect(texts(elementsOf({ ...party, egress: ["9.9.9.9/32", "1.0.0.0/8"] }))).toEqual([
      ...always,
      "listed 100.72.0.5 . 1.0.0.0-1.255.255.255",
      "listed 100.72.0.5 . 9.9.9.9",
    ])
    expect(texts(elementsOf({ ...party, egress: "none" }))).toEqual(always)
  })

  it("changes by what differs alone", () => {
    const { gone, added } = difference(elementsOf(party), elementsOf({ ...party, egress: ["9.9.9.9/32"] }))
    expect(texts(gone)).toEqual(["open 100.72.0.5"])
    expect(texts(added)).toEqual(["listed 100.72.0.5 . 9.9.9.9"])
    expect(difference(elementsOf(party), elementsOf(party))).toEqual({ gone: [], added: [] })
  })
})

const TABLE = `table inet berth_012345 {
\tmap tenants {
\t\ttype ipv4_addr : mark
\t\telements = { 100.72.0.5 : 0x00000001, 100.72.0.50 : 0x00000001,
\t\t\t     100.72.0.6 : 0x00000002 }
\t}

\tset open {
\t\ttype ipv4_addr
\t\telements = { 100.72.0.6 }
\t}

\tset listed {
\t\ttype ipv4_addr . ipv4_addr
\t\tflags interval
\t\telements = { 100.72.0.5 . 203.0.113.0/24,
\t\t\t     100.72.0.5 . 9.9.9.9,
\t\t\t     100.72.0.5 . 8.0.0.1-8.0.0.4 }
\t}

\tchain source {
\t\tip saddr 100.72.0.5 drop
\t}
}`

describe("what the kernel says", () => {
  it("is found by a container's address, whole", () => {
    expect(elementsNaming("100.72.0.5", TABLE).map(({ set, text }) => `${set} ${text}`)).toEqual([
      "tenants 100.72.0.5 : 0x00000001",
      "listed 100.72.0.5 . 203.0.113.0/24",
      "listed 100.72.0.5 . 9.9.9.9",
      "listed 100.72.0.5 . 8.0.0.1-8.0.0.4",
    ])
  })

  it("comes to an egress", () => {
    expect(egressOf(elementsNaming("100.72.0.6", TABLE))).toBe("open")
    expect(egressOf(elementsNaming("100.72.0.50", TABLE))).toBe("none")
    expect(egressOf(elementsNaming("100.72.0.5", TABLE))).toEqual([
      "8.0.0.1/32",
      "8.0.0.2/31",
      "8.0.0.4/32",
      "9.9.9.9/32",
      "203.0.113.0/24",
    ])
  })

  it("and to a rate, when the link has a bucket", () => {
    expect(rateOf('[{"kind":"tbf","handle":"8001:","root":true,"refcnt":2,"options":{"rate":4000000,"burst":80000}}]')).toBe(
      4_000_000,
    )
    expect(rateOf('[{"kind":"noqueue","handle":"0:","root":true,"refcnt":2,"options":{}}]')).toBeNull()
    expect(rateOf("[]")).toBeNull()
  })
})

describe("a rate's bucket", () => {
  it("always holds a few frames, and never more than a moment's worth of a fast link", () => {
    expect(shapeOf(1, 1500)).toEqual({ bytesPerSecond: 1, burstBytes: 4 * 1514, limitBytes: 20 * 1514 })
    expect(shapeOf(10_000_000, 1500)).toEqual({ bytesPerSecond: 10_000_000, burstBytes: 200_000, limitBytes: 1_000_000 })
    const most = shapeOf(Number.MAX_SAFE_INTEGER, 1500)
    expect(most.burstBytes).toBeLessThan(2 ** 32)
    expect(most.limitBytes).toBeLessThan(2 ** 32)
  })
})
