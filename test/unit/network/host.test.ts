import { describe, expect, it } from "vitest"
import { parseNameservers } from "../../../node-bridge/network/host.ts"

describe("the host's name servers", () => {
  it("are those of its resolv.conf, the ones on its own loopback too: it is the bridge that asks them", () => {
    const file = "# comment\nnameserver 127.0.0.53\n  nameserver\t192.0.2.1 \nnameserver fd00::1\nnameserver none\nsearch x\n"
    expect(parseNameservers(file)).toEqual(["127.0.0.53", "192.0.2.1", "fd00::1"])
  })
})
