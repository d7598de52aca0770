import { describe, expect, it } from "vitest"
import { parseRange } from "../../../node-bridge/network/addresses.ts"
import { elementsOf } from "../../../node-bridge/network/elements.ts"
import { dropTable, ruleset, tableName } from "../../../node-bridge/network/rules.ts"

const options = {
  instance: "0123456789abcdef",
  range: parseRange("100.72.0.0/16"),
  closedNetworks: ["198.51.100.0/24"],
  namePort: 25_053,
  elements: [],
}

describe("the packet filter", () => {
  it("replaces its own table as a whole and touches no other", () => {
    const text = ruleset(options)
    expect(text).toContain("delete table inet berth_012345")
    expect(text.match(/^(?:delete )?table .*$/gm)?.every((line) => line.includes(tableName(options.instance)))).toBe(true)
    expect(text).not.toContain("flush")
  })

  it("names links by the bridge's prefix, so that another bridge's are not its business", () => {
    const links = [...ruleset(options).matchAll(/[io]ifname(?: !=)? ("[^"]+")/g)].map(([, name]) => name)
    expect(new Set(links)).toEqual(new Set(['"b012345*"', '"lo"']))
  })

  it("closes the operator's networks with the private ones, to lists of egress as to open ones", () => {
    const text = ruleset(options)
    expect(text).toMatch(/elements = \{ 0\.0\.0\.0\/8, .*169\.254\.0\.0\/16.*, 198\.51\.100\.0\/24 \}/)
    const outbound = text.slice(text.indexOf("chain outbound"))
    expect(outbound.indexOf("ip daddr @closed")).toBeLessThan(outbound.indexOf("accept"))
  })

  it("holds each container's elements in its set, and is loadable with none", () => {
    expect(ruleset(options)).not.toContain("elements = {  }")
    const elements = elementsOf({ address: "100.72.0.5", tenant: 1, run: 255, egress: ["203.0.113.0/24"] })
    const text = ruleset({ ...options, elements })
    expect(text).toContain("map tenants { type ipv4_addr : mark; elements = { 100.72.0.5 : 0x1 }; }")
    expect(text).toContain("set flows { type mark . ipv4_addr; elements = { 0xff . 100.72.0.5 }; }")
    expect(text).toContain("flags interval; elements = { 100.72.0.5 . 203.0.113.0-203.0.113.255 }; }")
    expect(text).toContain("set open { type ipv4_addr; }")
  })

  it("is taken away whether or not it is there", () => {
    expect(dropTable(options.instance)).toBe("table inet berth_012345\ndelete table inet berth_012345\n")
  })
})
