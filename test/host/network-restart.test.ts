import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { tableName } from "../../node-bridge/network/rules.ts"
import { anId } from "../support/assignments.ts"
import { ECHO_PORT, OPEN, openNetworkBench } from "../support/network-bench.ts"
import type { NetworkBench } from "../support/network-bench.ts"
import * as net from "../support/networks.ts"
import { waitFor } from "../support/wait-for.ts"

const A = anId("ten")
const B = anId("ten")
let bench: NetworkBench

beforeAll(async () => {
  bench = await openNetworkBench("network-restart", 2)
})
afterAll(() => bench.close())

describe("a bridge that dies", () => {
  it("leaves policy and rates in force; the next takes them over, and nothing opens in between", async () => {
    const mine = await bench.place(A, { egress: ["198.51.100.0/24"], egress_bytes_per_second: 2_000_000 })
    const other = await bench.place(B)
    await bench.echoes(other.netnsPath)
    const { inside, live } = await bench.hold(mine)
    const neighbour = await bench.hold(other)
    const kept = await net.conversation(inside, bench.far.address, ECHO_PORT)
    // Tries what is closed as often as it can, all the time.
    const prober = await net.script(
      inside,
      `
import socket
for n in range(1000000):
    for address in ("${bench.near.address}", "${other.at}"):
        s = socket.socket(); s.settimeout(0.2)
        if s.connect_ex((address, ${ECHO_PORT})) == 0: print("through to", address)
        s.close()
    if n % 20 == 0: print("tried")`,
    )
    const tries = (more: number) => {
      const before = prober.lines().length
      return waitFor("more tries", () => prober.lines().length > before + more)
    }
    await waitFor("both", () => kept.lines().length > 2 && prober.lines().length > 2)
    await bench.pool.close() // what it held is closed; nothing was released
    await tries(2)
    await bench.restart([live, neighbour.live])
    await tries(5)
    expect(prober.lines().filter((line) => line !== "tried")).toEqual([])
    const heard = kept.lines().length
    await waitFor("the old connection", () => kept.lines().length > heard + 2)
    expect(kept.lines().at(-1)).toBe("heard")
    expect(await bench.pool.describe(mine.run)).toMatchObject(mine.limits)
    expect(await net.reaches(inside, other.at, ECHO_PORT)).toBe(false)
    await bench.pool.setLimits(mine.run, OPEN)
    expect(await net.reaches(inside, bench.near.address, ECHO_PORT)).toBe(true)
    await prober.stop()
    await kept.stop()
  })

  it("does what its record says though it had died before doing it", async () => {
    const { inside, live } = await bench.hold(await bench.place(A))
    await bench.restart([{ ...live, network: { egress: "none" } }])
    expect(await net.within(inside, "ip", "-o", "link", "show")).toMatch(/^1: lo:[^\n]*\n$/)
    await bench.restart([{ ...live, address: null }])
    expect(await net.reaches(inside, bench.near.address, ECHO_PORT)).toBe(true)
  })

  it("closes everything to a container of which no record tells", async () => {
    const { inside } = await bench.hold(await bench.place(A))
    await bench.restart([])
    expect(await net.reaches(inside, bench.near.address, ECHO_PORT)).toBe(false)
  })
})

describe("a packet filter that somebody took away", () => {
  it("is back with the next container, or the next look, with everybody in it", async () => {
    const mine = await bench.place(A, { egress: ["198.51.100.0/24"] })
    const table = tableName(createHash("sha256").update(`/test/network-restart/${process.pid}`).digest("hex"))
    execFileSync("nft", ["delete", "table", "inet", table])
    await bench.pool.refill()
    expect(execFileSync("nft", ["list", "tables"], { encoding: "utf8" })).toContain(table)
    expect(await net.reaches(mine.netnsPath, bench.near.address, ECHO_PORT)).toBe(false)
    execFileSync("nft", ["delete", "table", "inet", table])
    const next = await bench.place(A)
    expect(await net.reaches(mine.netnsPath, bench.near.address, ECHO_PORT)).toBe(false)
    expect(await net.reaches(mine.netnsPath, bench.far.address, ECHO_PORT)).toBe(true)
    expect(await net.reaches(next.netnsPath, bench.near.address, ECHO_PORT)).toBe(true)
  })

  it("is made anew when somebody put something into it that is in the way", async () => {
    const { address } = await bench.place(A)
    const table = tableName(createHash("sha256").update(`/test/network-restart/${process.pid}`).digest("hex"))
    const [start, last] = /^(.*\.)(\d+)$/.exec(address ?? "")?.slice(1) ?? []
    const others = Array.from({ length: 60 }, (_, i) => `${start}${Number(last) + 1 + i} : 0x7777`)
    execFileSync("nft", ["add", "element", "inet", table, "tenants", `{ ${others.join(", ")} }`])
    const next = await bench.place(A)
    expect(await net.reaches(next.netnsPath, bench.near.address, ECHO_PORT)).toBe(true)
    expect(execFileSync("nft", ["list", "table", "inet", table], { encoding: "utf8" })).not.toContain("0x00007777")
  })
})
