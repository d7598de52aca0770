import { describe, expect, it } from "vitest"
import { parseRange } from "../../../node-bridge/network/addresses.ts"
import { dropTable, ruleset, tableName } from "../../../node-bridge/network/rules.ts"

const options = {
  instance: "0123456789abcdef",
  range: parseRange("100.72.0.0/16"),
  nameservers: ["10.255.255.53"],
  closedNetworks: ["198.51.100.0/24"],
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
    expect(new Set(links)).toEqual(new Set(['"b012345*"']))
  })

  it("closes the operator's networks with the private ones, and opens port 53 of name servers before that", () => {
    const text = ruleset(options)
    expect(text).toMatch(/elements = \{ 0\.0\.0\.0\/8, .*169\.254\.0\.0\/16.*, 198\.51\.100\.0\/24 \}/)
    expect(text.indexOf("@resolvers")).toBeLessThan(text.indexOf("ip daddr @closed drop"))
  })

  it("is loadable with no name server at all", () => {
    expect(ruleset({ ...options, nameservers: [] })).not.toContain("elements = {  }")
  })

  it("is taken away whether or not it is there", () => {
    expect(dropTable(options.instance)).toBe("table inet berth_012345\ndelete table inet berth_012345\n")
  })
})
