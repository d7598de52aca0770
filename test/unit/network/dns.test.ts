import { assert, property, uint8Array } from "fast-check"
import { describe, expect, it } from "vitest"
import { DnsBudget } from "../../../node-bridge/network/dns-budget.ts"
import * as message from "../../../node-bridge/network/dns-message.ts"
import type { Query } from "../../../node-bridge/network/dns-message.ts"
import { decide, leadsInside } from "../../../node-bridge/network/dns-policy.ts"
import { spanOf } from "../../../node-bridge/network/egress.ts"
import { Residents } from "../../../node-bridge/network/residents.ts"
import { PRIVATE_NETWORKS } from "../../../schema/private-networks.ts"
import { anId } from "../../support/assignments.ts"
import { aQuery, replyTo } from "../../support/dns.ts"

const closed = PRIVATE_NETWORKS.map(spanOf)
function read(packet: Buffer): Query {
  const query = message.readQuery(packet)
  if (query === null || query === "malformed") throw new Error("no query")
  return query
}

describe("a question", () => {
  it("is read with its name in small letters, and kept as it came", () => {
    const asked = read(aQuery("WWW.Example.org", { id: 7, type: 28, edns: 4096 }))
    expect(asked).toMatchObject({ id: 7, name: "www.example.org", type: 28, class: 1, edns: { bytes: 4096, dnssec: false } })
    expect(asked.question.toString("latin1")).toContain("WWW")
  })

  it("with bytes that no name has is never taken for a name that is written like it", () => {
    const packet = aQuery("aXb.org")
    packet.writeUInt8(0x2e, 14) // a dot inside the label
    expect(read(packet).name).toBe("a\\046b.org")
  })

  it("that is none is never answered, and one that is broken is told so", () => {
    expect(message.readQuery(Buffer.alloc(11))).toBeNull()
    expect(message.readQuery(replyTo(aQuery("a"), []))).toBeNull()
    expect(message.readQuery(aQuery("example.org").subarray(0, 20))).toBe("malformed")
  })

  it("and an answer may be any bytes at all: reading them neither fails nor loops", () => {
    assert(
      property(uint8Array({ maxLength: 80 }), (bytes) => {
        message.readQuery(Buffer.from(bytes))
        message.readReply(Buffer.concat([message.forwarded(query, 5).subarray(0, 29), Buffer.from(bytes)]), query, 5)
        message.readReply(Buffer.from(bytes), query, 5)
      }),
    )
  })

  it("goes out anew: our number, our words, none of its options", () => {
    const packet = message.forwarded(read(aQuery("example.org", { id: 7, edns: 4096 })), 99)
    expect(packet.readUInt16BE(0)).toBe(99)
    expect(packet.length).toBe(12 + 17 + 11)
    expect(read(packet).edns).toEqual({ bytes: message.EDNS_BYTES, dnssec: false })
  })
})

const query = read(aQuery("example.org"))
const sent = message.forwarded(query, 99)
const records = (...addresses: (string | Buffer)[]) => message.readReply(replyTo(sent, addresses), query, 99)?.records ?? []
const six = (hex: string) => Buffer.from(hex, "hex")

describe("a reply", () => {
  it("counts only with the number and the question asked", () => {
    expect(message.readReply(replyTo(sent, ["203.0.113.7"]), query, 99)?.records).toHaveLength(1)
    expect(message.readReply(replyTo(sent, ["203.0.113.7"]), query, 98)).toBeNull()
    for (const other of [
      aQuery("example.com", { id: 99 }),
      aQuery("example.org", { id: 99, type: 28 }),
      aQuery("example.org", { id: 99, klass: 3 }),
    ])
      expect(message.readReply(replyTo(other, ["203.0.113.7"]), query, 99)).toBeNull()
    expect(message.readReply(sent, query, 99)).toBeNull()
    expect(message.readReply(replyTo(sent, ["203.0.113.7"]).subarray(0, 40), query, 99)).toBeNull()
  })

  it("is passed on under the asker's number, without what servers add of themselves", () => {
    const reply = message.readReply(replyTo(sent, ["203.0.113.7"]), query, 99)
    if (reply === null) throw new Error("unread")
    const packet = message.relayed(query, reply)
    expect(packet.readUInt16BE(0)).toBe(query.id)
    expect(packet.readUInt16BE(10)).toBe(0)
    expect(packet.toString("latin1")).not.toContain("host")
  })

  it("that is longer than the asker takes becomes one that says so", () => {
    const reply = message.readReply(
      replyTo(
        sent,
        Array.from({ length: 60 }, () => "203.0.113.7"),
      ),
      query,
      99,
    )
    if (reply === null) throw new Error("unread")
    const full = message.relayed(query, reply)
    const small = message.fitted(query, full)
    expect(full.length).toBeGreaterThan(512)
    expect(small.length).toBeLessThan(512)
    expect(small.readUInt16BE(2) & 0x0200).toBe(0x0200)
    expect(message.fitted(read(aQuery("example.org", { edns: 1232 })), full)).toBe(full)
  })

  it("leads inside when any of its addresses does, in whatever disguise", () => {
    expect(leadsInside(records("203.0.113.7", six("20010db8000000000000000000000001")), closed)).toBe(false)
    expect(leadsInside(records(six("00000000000000000000ffffcb007107")), closed)).toBe(false)
    for (const bad of ["10.1.2.3", "127.0.0.1", "169.254.169.254", "0.0.0.0"])
      expect(leadsInside(records("203.0.113.7", bad), closed)).toBe(true)
    for (const bad of [
      "fd000ec2000000000000000000000254",
      "fe800000000000000000000000000001",
      "00000000000000000000000000000001",
      "00000000000000000000ffff0a000001",
    ])
      expect(leadsInside(records(six(bad)), closed)).toBe(true)
  })
})

describe("who is told what", () => {
  const tenantId = anId("ten")
  const residents = new Residents()
  const by = { runId: anId("run"), tenantId, address: "100.72.0.2", names: ["web"], egress: "open" } as const
  residents.add(by)
  const asked = { by, closed, addressOf: (tenant: typeof tenantId, name: string) => residents.addressOf(tenant, name) }
  const decided = (name: string, more = {}) => decide(read(aQuery(name, more)), asked)

  it("of a container, its tenant, and its address alone", () => {
    const answer = { kind: "answer", rcode: 0, records: [{ type: 1, ttl: 5, data: Buffer.from([100, 72, 0, 2]) }] }
    expect(decided("web")).toEqual(answer)
    expect(decided("web.berth.internal")).toEqual(answer)
    expect(decided("web", { type: 16 })).toEqual({ kind: "answer", rcode: 0, records: [] })
    expect(decide(read(aQuery("web")), { ...asked, by: { ...by, tenantId: anId("ten") } })).toMatchObject({ rcode: 3 })
  })

  it("of the world, whose egress is open", () => {
    expect(decided("example.org")).toEqual({ kind: "forward" })
    expect(decided("", { type: 2 })).toEqual({ kind: "forward" })
    expect(decide(read(aQuery("example.org")), { ...asked, by: { ...by, egress: ["0.0.0.0/0"] } })).toMatchObject({ rcode: 5 })
  })

  it("of private zones nobody, and of a server itself nobody", () => {
    for (const name of [
      "metadata.google.internal",
      "internal",
      "x.local",
      "8.8.8.10.in-addr.arpa",
      "10.in-addr.arpa",
      "1.f.ip6.arpa",
    ])
      expect(decided(name, { type: 12 })).toMatchObject({ kind: "answer", rcode: 3 })
    expect(decided("8.8.8.8.in-addr.arpa", { type: 12 })).toEqual({ kind: "forward" })
    expect(decided("version.bind", { type: 16, klass: 3 })).toMatchObject({ rcode: 5 })
    const notify = aQuery("example.org")
    notify.writeUInt16BE(0x2000, 2)
    expect(decide(read(notify), asked)).toMatchObject({ rcode: 4 })
  })
})

describe("residents", () => {
  it("of one name are answered by the latest that is left, and numbers are a tenant's own", () => {
    const residents = new Residents()
    const [a, b] = [anId("ten"), anId("ten")]
    const one = { runId: anId("run"), tenantId: a, address: "100.72.0.2", names: ["web"], egress: "open" } as const
    const two = { ...one, runId: anId("run"), address: "100.72.0.3" }
    residents.add(one)
    residents.add(two)
    residents.add({ ...two, egress: ["9.9.9.9/32"] })
    expect(residents.addressOf(a, "WEB")).toBe("100.72.0.3")
    expect(residents.addressOf(b, "web")).toBeUndefined()
    residents.remove(two.runId)
    expect(residents.addressOf(a, "web")).toBe("100.72.0.2")
    residents.remove(one.runId)
    expect([residents.addressOf(a, "web"), residents.at("100.72.0.2")]).toEqual([undefined, undefined])
    expect(residents.numberOf(a)).toBe(1)
    expect(residents.numberOf(b)).toBe(2)
    expect(residents.numberOf(a)).toBe(1)
  })
})

describe("a tenant's share of the name server", () => {
  const limits = { perSecond: 10, atOnce: 5, waiting: 2, waitingOfAll: 3 }
  const [a, b] = [anId("ten"), anId("ten")]

  it("is so many questions at once, and then so many a second, whatever others do", () => {
    const budget = new DnsBudget(limits)
    expect(Array.from({ length: 7 }, () => budget.ask(a, 0))).toEqual([true, true, true, true, true, false, false])
    expect(budget.ask(b, 0)).toBe(true)
    expect([budget.ask(a, 100), budget.ask(a, 100)]).toEqual([true, false])
    expect(Array.from({ length: 6 }, () => budget.ask(a, 60_000)).filter(Boolean)).toHaveLength(5)
  })

  it("is so many that wait for an answer from outside, and all together have an end", () => {
    const budget = new DnsBudget(limits)
    expect([budget.begin(a, 0), budget.begin(a, 0), budget.begin(a, 0)]).toEqual([true, true, false])
    expect([budget.begin(b, 0), budget.begin(b, 0)]).toEqual([true, false])
    budget.done(a)
    expect(budget.begin(b, 0)).toBe(true)
    budget.prune(60_000)
    expect(budget.begin(b, 60_000)).toBe(false)
  })
})
