import { describe, expect, it } from "vitest"
import { parseNameservers } from "../../../node-bridge/network/host.ts"

describe("name servers for containers", () => {
  it("are the host's, without those that only the host can reach", () => {
    const file =
      "# comment\nnameserver 127.0.0.53\nnameserver 10.255.255.53\n  nameserver\t192.0.2.1 \nnameserver fd00::1\nsearch x\n"
    expect(parseNameservers(file)).toEqual(["10.255.255.53", "192.0.2.1"])
  })
})
