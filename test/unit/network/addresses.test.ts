import { describe, expect, it } from "vitest"
import { assert, integer, property } from "fast-check"
import * as addresses from "../../../node-bridge/network/addresses.ts"

const range = addresses.parseRange("100.72.0.0/16")
const small = addresses.parseRange("10.1.2.16/28")

const ours = (device: string) => device.startsWith("b012345")

describe("addresses of containers", () => {
  it("come from the range, after its own and the gateway's", () => {
    expect(addresses.gatewayOf(range)).toBe("100.72.0.1")
    expect(addresses.addressOf(range, 2)).toBe("100.72.0.2")
    expect(addresses.addressOf(range, 0x1234)).toBe("100.72.18.52")
  })

  it("and slots stand for each other", () => {
    assert(
      property(integer({ min: 2, max: 65_534 }), (slot) => {
        expect(addresses.slotOf(range, addresses.addressOf(range, slot))).toBe(slot)
      }),
    )
    for (const text of ["100.72.0.0", "100.72.0.1", "100.72.255.255", "100.73.0.2", "nonsense", "300.1.1.1"])
      expect(addresses.slotOf(range, text)).toBeNull()
  })

  it("rest as long as possible before they are given out again", () => {
    expect(addresses.nextSlot(small, new Set(), null)).toBe(2)
    expect(addresses.nextSlot(small, new Set([3]), 2)).toBe(4)
    expect(addresses.nextSlot(small, new Set([2]), 14)).toBe(3)
  })

  it("are given to one each until there are none", () => {
    const taken = new Set<number>()
    for (let slot = addresses.nextSlot(small, taken, null); slot !== null; slot = addresses.nextSlot(small, taken, slot))
      taken.add(slot)
    expect(taken.size).toBe(addresses.slotCount(small))
    expect([Math.min(...taken), Math.max(...taken)]).toEqual([2, 14])
  })

  it.each(["100.72.0.0", "100.72.0.0/8", "100.72.0.0/30", "100.72.0.1/16", "x/16", "", "1.2.3.256/24"])(
    "refuse the range %j",
    (text) => {
      expect(() => addresses.parseRange(text)).toThrow(text)
    },
  )

  it("have link names that fit, carry the slot and tell bridges apart", () => {
    expect(addresses.linkName("0123456789", 65_534)).toBe("b012345fffe")
    expect(addresses.linkName("0123456789", 2).length).toBeLessThanOrEqual(15)
  })

  it("have hardware addresses of their own", () => {
    expect(addresses.macOf("100.72.0.255")).toBe("02:62:64:48:00:ff")
  })
})

describe("the host's routes", () => {
  const table = [
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
    "tailscale0\t00004064\t00000000\t0001\t0\t0\t0\t0000C0FF\t0\t0\t0",
    "b012345fffe\tFEFF4864\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0",
  ]

  it("are read from the kernel's table", () => {
    expect(addresses.parseRoutes(table.join("\n"))).toEqual([
      { device: "eth0", base: 0, prefix: 0 },
      { device: "tailscale0", base: addresses.parseIpv4("100.64.0.0"), prefix: 10 },
      { device: "b012345fffe", base: addresses.parseIpv4("100.72.255.254"), prefix: 32 },
    ])
  })

  it("that lead into the range are told, wider or narrower, but never the default route or our own", () => {
    const routes = addresses.parseRoutes(table.join("\n"))
    expect(addresses.overlapping(range, routes, ours).map(({ device }) => device)).toEqual(["tailscale0"])
    expect(addresses.overlapping(range, routes, () => false)).toHaveLength(2)
    expect(addresses.overlapping(small, routes, () => false)).toEqual([])
  })
})
