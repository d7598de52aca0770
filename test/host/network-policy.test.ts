import { execFileSync, spawn } from "node:child_process"
import { readlinkSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { macOf } from "../../node-bridge/network/addresses.ts"
import { NamespacePool } from "../../node-bridge/network/pool.ts"
import type { Network, NetworkPool } from "../../node-bridge/runtime/ports.ts"
import type { Network as Limits } from "../../schema/container.ts"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { anId } from "../support/assignments.ts"
import * as net from "../support/networks.ts"
import type { Elsewhere, Server } from "../support/networks.ts"
import { waitFor } from "../support/wait-for.ts"

/** One bridge's containers of two tenants, and two places of the world that they may or may not reach. */
const RANGE = "100.93.0.0/24"
const GATEWAY = "100.93.0.1"
const PORT = 8080
const OPEN = { egress: "open" } as const
const stateDir = `/test/network-policy/${process.pid}`
const A = anId("ten")
const B = anId("ten")

let pool: NamespacePool
let near: Elsewhere
let far: Elsewhere
const servers: Server[] = []
const taken: RunId[] = []

async function openPool(live: Parameters<NetworkPool["recover"]>[0] = []): Promise<NamespacePool> {
  const opened = await NamespacePool.open({ stateDir, range: RANGE, size: 0, closedNetworks: ["198.51.100.128/25"] })
  await opened.recover(live)
  return opened
}

type Place = Network & { readonly run: RunId; readonly at: string }

async function place(tenantId: TenantId, limits: Limits = OPEN): Promise<Place> {
  const run = anId("run")
  taken.push(run)
  const network = await pool.take(run, tenantId, limits, [])
  return { ...network, run, at: network.address ?? "" }
}

const hostTable = () => execFileSync("nft", ["list", "tables"], { encoding: "utf8" })

beforeAll(async () => {
  near = await net.elsewhere("bt-near", "203.0.113")
  far = await net.elsewhere("bt-far", "198.51.100")
  pool = await openPool()
  for (const { netns } of [near, far]) servers.push(await net.echoes(netns, PORT))
})

afterAll(async () => {
  for (const server of servers) await server.stop()
  for (const run of taken) await pool.release(run)
  await pool.close()
  await near.close()
  await far.close()
})

describe("containers on one node", () => {
  let one: Place
  let two: Place
  let other: Place

  beforeAll(async () => {
    one = await place(A)
    two = await place(A, { egress: ["198.51.100.0/24"] })
    other = await place(B)
    for (const { netnsPath } of [one, two, other]) servers.push(await net.echoes(netnsPath, PORT))
  })

  it("reach those of their tenant, whatever their egress, by TCP, UDP and ICMP", async () => {
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      expect(await net.reaches(from.netnsPath, to.at, PORT)).toBe(true)
      expect(await net.datagramReturns(from.netnsPath, to.at, PORT)).toBe(true)
      expect(await net.pings(from.netnsPath, to.at)).toBe(true)
    }
  })

  it("reach no other tenant's by any of these", async () => {
    for (const [from, to] of [
      [one, other],
      [other, one],
      [other, two],
    ] as const) {
      expect(await net.reaches(from.netnsPath, to.at, PORT)).toBe(false)
      expect(await net.datagramReturns(from.netnsPath, to.at, PORT)).toBe(false)
      expect(await net.pings(from.netnsPath, to.at)).toBe(false)
    }
  })

  it("cannot tell another tenant's address from one that nobody has", async () => {
    const outcome = async (address: string) => {
      const source = `
import socket, sys
s = socket.socket(); s.settimeout(1)
print(s.connect_ex(("${address}", ${PORT})))`
      return net.within(one.netnsPath, "/usr/bin/python3", "-c", source)
    }
    expect(await outcome(other.at)).toBe(await outcome("100.93.0.200"))
  })

  it("reach nothing by IPv6, even where somebody switches it on inside", async () => {
    for (const { netnsPath } of [one, other]) {
      await net.within(netnsPath, "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    }
    const local = await waitFor(
      "a link-local address",
      async () =>
        /inet6 (fe80::[0-9a-f:]+)/.exec(
          (await net.within(other.netnsPath, "ip", "-6", "addr", "show", "dev", "eth0")) ?? "",
        )?.[1],
    )
    for (const address of [local, "ff02::1", "fe80::62:ff:fe00:1", "fd00:ec2::254"]) {
      expect([address, await net.within(one.netnsPath, "busybox", "ping6", "-c", "1", "-W", "1", "-I", "eth0", address)]).toEqual([address, null]) // prettier-ignore
    }
    for (const { netnsPath } of [one, other]) {
      await net.within(netnsPath, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    }
  })

  it("are not believed when they say that they are the gateway or a neighbour", async () => {
    // The worst case: somebody who has the namespace itself, and so raw sockets and every address.
    const neighbours = () => execFileSync("ip", ["-4", "neigh"], { encoding: "utf8" }).split("\n").filter((line) => line.includes("100.93.0.")).toSorted() // prettier-ignore
    const before = neighbours()
    const claim = `
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0x0806))
me = s.getsockname()[4]; ip = socket.inet_aton
for _ in range(20):
    for victim in ("${GATEWAY}", "${two.at}", "${other.at}"):
        for kind in (1, 2):
            s.send(b"\\xff" * 6 + me + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, kind) + me + ip(victim) + b"\\xff" * 6 + ip(victim))`
    expect(await net.within(one.netnsPath, "/usr/bin/python3", "-c", claim)).toBe("")
    await net.within(one.netnsPath, "ip", "addr", "add", `${other.at}/32`, "dev", "eth0")
    expect(neighbours()).toEqual(before)
    expect(before.every((line) => line.includes("PERMANENT"))).toBe(true)
    expect(await net.reaches(other.netnsPath, near.address, PORT)).toBe(true)
    expect(await net.reaches(one.netnsPath, two.at, PORT)).toBe(true)
    await net.within(one.netnsPath, "ip", "addr", "del", `${other.at}/32`, "dev", "eth0")
  })

  it("send nothing out under an address that is not theirs, the gateway's and a neighbour's included", async () => {
    const collector = await net.collectDatagrams(two.netnsPath, 9)
    try {
      for (const source of [GATEWAY, other.at, two.at, near.address])
        expect(await net.sendDatagram(one.netnsPath, source, two.at, 9, "forged")).not.toBeNull()
      await net.sendDatagram(one.netnsPath, one.at, two.at, 9, "honest")
      await waitFor("the honest datagram", () => collector.seen().includes("honest"))
      expect(collector.seen()).toBe("ready\nhonest\n")
    } finally {
      await collector.stop()
    }
  })

  it("gain nothing by another hardware address but their own silence", async () => {
    const thief = await place(A)
    await net.within(thief.netnsPath, "ip", "link", "set", "eth0", "address", macOf(other.at))
    expect(await net.reaches(two.netnsPath, thief.at, PORT)).toBe(false)
    expect(await net.reaches(thief.netnsPath, other.at, PORT)).toBe(false)
    expect(await net.reaches(other.netnsPath, near.address, PORT)).toBe(true)
  })
})

describe("egress as a list", () => {
  it("lets exactly those networks through, by every protocol", async () => {
    const { netnsPath } = await place(A, { egress: ["198.51.100.0/24", "198.51.100.7/32", "203.0.113.2/31"] })
    expect(await net.reaches(netnsPath, far.address, PORT)).toBe(true)
    expect(await net.datagramReturns(netnsPath, far.address, PORT)).toBe(true)
    expect(await net.pings(netnsPath, far.address)).toBe(true)
    expect(await net.reaches(netnsPath, near.address, PORT)).toBe(false)
    expect(await net.datagramReturns(netnsPath, near.address, PORT)).toBe(false)
    expect(await net.pings(netnsPath, near.address)).toBe(false)
  })

  it("is refused by name when it lies in what the platform closes, and never opens a closed part of it", async () => {
    for (const closed of ["169.254.169.254/32", "10.1.0.0/16", "198.51.100.192/26"]) {
      await expect(place(A, { egress: ["203.0.113.0/24", closed] })).rejects.toThrow(closed)
    }
    const { netnsPath } = await place(A, { egress: ["0.0.0.0/0"] })
    const metadata = await net.elsewhere("bt-meta2", "169.254.169")
    await net.within(far.netns, "ip", "addr", "add", "198.51.100.200/32", "dev", "eth0")
    servers.push(await net.echoes(metadata.netns, PORT))
    expect(execFileSync("sh", ["-c", `busybox nc -w 1 198.51.100.200 ${PORT} </dev/null && echo there`]).toString()).toBe(
      "there\n",
    )
    try {
      expect(await net.reaches(netnsPath, far.address, PORT)).toBe(true)
      expect(await net.reaches(netnsPath, "198.51.100.200", PORT)).toBe(false)
      expect(await net.reaches(netnsPath, metadata.address, PORT)).toBe(false)
    } finally {
      await metadata.close()
    }
  })
})

describe("a change of a live container's network", () => {
  it("holds for open connections: cut off in both directions, and let on", async () => {
    const { run, netnsPath } = await place(A)
    const cut = await net.conversation(netnsPath, near.address, PORT)
    const kept = await net.conversation(netnsPath, far.address, PORT)
    await waitFor("both to talk", () => cut.lines().includes("heard") && kept.lines().includes("heard"))
    await pool.setLimits(run, { egress: ["198.51.100.0/24"] })
    await waitFor("the one to be cut", () => cut.lines().some((line) => line.startsWith("ended")))
    const heard = kept.lines().length
    await waitFor("the other to go on", () => kept.lines().length > heard + 2)
    expect(kept.lines().at(-1)).toBe("heard")
    expect(await net.reaches(netnsPath, near.address, PORT)).toBe(false)
    await pool.setLimits(run, OPEN)
    expect(await net.reaches(netnsPath, near.address, PORT)).toBe(true)
    await cut.stop()
    await kept.stop()
  })

  it("stops what still comes in on a connection that may no longer be", async () => {
    const { run, netnsPath } = await place(A)
    const stream = await net.script(near.netns, `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 99)); _, to = s.recvfrom(100)
while True: s.sendto(b"more", to); time.sleep(0.02)`) // prettier-ignore
    const listener = await net.script(netnsPath, `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 99))
s.settimeout(0.1)
while True:
    try: s.sendto(b"begin", ("${near.address}", 99)); s.recv(100); break
    except OSError: pass
s.settimeout(0.5); print("got")
while True:
    try: s.recv(100); print("got")
    except TimeoutError: print("quiet")`) // prettier-ignore
    try {
      await waitFor("the stream", () => listener.lines().length > 5)
      await pool.setLimits(run, { egress: ["198.51.100.0/24"] })
      await waitFor("silence", () => listener.lines().at(-1) === "quiet")
      await pool.setLimits(run, OPEN)
      await waitFor("the stream again", () => listener.lines().at(-1) === "got")
    } finally {
      await stream.stop()
      await listener.stop()
    }
  })

  it("takes the link away for none, and gives one again", async () => {
    const { run, netnsPath } = await place(A)
    expect(await pool.setLimits(run, { egress: "none" })).toBeNull()
    expect(await net.within(netnsPath, "ip", "-o", "link", "show")).toMatch(/^1: lo:[^\n]*\n$/)
    expect(await pool.describe(run)).toMatchObject({ egress: "none", rules: [] })
    const address = await pool.setLimits(run, { egress: ["198.51.100.0/24"] })
    expect(await net.within(netnsPath, "ip", "-4", "-o", "addr", "show", "dev", "eth0")).toContain(`${address}/32`)
    expect(await net.reaches(netnsPath, far.address, PORT)).toBe(true)
    expect(await net.reaches(netnsPath, near.address, PORT)).toBe(false)
    const { netnsPath: never, run: alone } = await place(A, { egress: "none" })
    await pool.setLimits(alone, OPEN)
    expect(await net.reaches(never, near.address, PORT)).toBe(true)
  })
})

describe("an address that comes to another container", () => {
  it("brings none of the connections of the one that had it", async () => {
    const small = await NamespacePool.open({ stateDir: `${stateDir}/small`, range: "100.94.0.0/28", size: 0 })
    await small.recover([])
    const first = anId("run")
    const { netnsPath, address } = await small.take(first, A, OPEN, [])
    const stream = await net.script(near.netns, `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 98)); _, to = s.recvfrom(100); print("begun")
while True: s.sendto(b"secret", to); time.sleep(0.02)`) // prettier-ignore
    await waitFor("the stream", async () => {
      await net.sendDatagram(netnsPath, address ?? "", near.address, 98, "begin")
      return stream.lines().includes("begun")
    })
    await small.release(first)
    // Its slot comes round again once the kernel has taken its link down.
    const { run, next } = await waitFor("the address again", async () => {
      const run = anId("run")
      const next = await small.take(run, B, OPEN, []).catch(() => null)
      if (next?.address === address) return { run, next }
      await small.release(run)
      return null
    })
    const collector = await net.script(next.netnsPath, `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)); s.bind(("eth0", 0x0800)); print("ready")
while True: print(s.recv(100)[28:])`) // prettier-ignore
    await waitFor("the collector", () => collector.lines().includes("ready"))
    expect(await net.reaches(next.netnsPath, near.address, PORT)).toBe(true)
    expect(collector.lines().join()).not.toContain("secret")
    await collector.stop()
    await stream.stop()
    await small.release(run)
    await small.close()
  })
})

describe("rates", () => {
  const MB = 1_000_000
  const expectRate = (measured: number, asked: number) => {
    expect(measured).toBeGreaterThan(asked * 0.9)
    expect(measured).toBeLessThan(asked * 1.1)
  }

  it("hold in both directions within a tenth, and so after a change and between neighbours", async () => {
    const { run, netnsPath, at } = await place(A, {
      egress: "open",
      egress_bytes_per_second: 4 * MB,
      ingress_bytes_per_second: 2 * MB,
    })
    const friend = await place(A)
    expectRate(await net.throughput(netnsPath, near.netns, near.address, 7001), 4 * MB)
    expectRate(await net.throughput(friend.netnsPath, netnsPath, at, 7002), 2 * MB)
    expect(await pool.describe(run)).toMatchObject({ egress_bytes_per_second: 4 * MB, ingress_bytes_per_second: 2 * MB })
    await pool.setLimits(run, { egress: "open", egress_bytes_per_second: MB })
    expectRate(await net.throughput(netnsPath, near.netns, near.address, 7003), MB)
    expect(await net.throughput(friend.netnsPath, netnsPath, at, 7004)).toBeGreaterThan(10 * MB)
    expect(await pool.describe(run)).toMatchObject({ egress_bytes_per_second: MB, ingress_bytes_per_second: null })
  })

  it("may be smaller than a packet a second and larger than four gigabytes", async () => {
    const { run } = await place(A, { egress: "open", egress_bytes_per_second: 1, ingress_bytes_per_second: 10_000 * MB })
    expect(await pool.describe(run)).toMatchObject({ egress_bytes_per_second: 1, ingress_bytes_per_second: 10_000 * MB })
  })
})

describe("what the kernel says of a container's network", () => {
  it("is its egress and the elements that name it, no other's", async () => {
    const { run, at } = await place(A, { egress: ["203.0.113.0/24", "198.51.100.4/32"] })
    const open = await place(B)
    const read = await pool.describe(run)
    expect(read).toMatchObject({ egress: ["198.51.100.4/32", "203.0.113.0/24"], egress_bytes_per_second: null })
    expect(read?.rules).toEqual(expect.arrayContaining([`listed { ${at} . 203.0.113.0/24 }`, `listed { ${at} . 198.51.100.4 }`]))
    expect(read?.rules.every((rule) => rule.includes(at))).toBe(true)
    expect(await pool.describe(open.run)).toMatchObject({ egress: "open" })
    expect(await pool.describe(anId("run"))).toBeNull()
  })
})

describe("a bridge that dies", () => {
  it("leaves policy and rates in force; the next takes them over, and nothing opens in between", async () => {
    const limits = { egress: ["198.51.100.0/24"], egress_bytes_per_second: 2_000_000 }
    const mine = await place(A, limits)
    const other = await place(B)
    servers.push(await net.echoes(other.netnsPath, PORT))
    const holders = [mine, other].map(({ netnsPath }) =>
      spawn("nsenter", [`--net=${netnsPath}`, "sleep", "60"], { stdio: "ignore" }),
    )
    for (const [index, { netnsPath }] of [mine, other].entries()) {
      await waitFor("the holder", () => readlinkSync(`/proc/${holders[index]?.pid ?? 0}/ns/net`) === readlinkSync(netnsPath))
    }
    const inside = `/proc/${holders[0]?.pid ?? 0}/ns/net`
    const kept = await net.conversation(inside, far.address, PORT)
    // Tries what is closed as often as it can, all the time.
    const prober = await net.script(inside, `
import socket
for n in range(1000000):
    for address in ("${near.address}", "${other.at}"):
        s = socket.socket(); s.settimeout(0.2)
        if s.connect_ex((address, ${PORT})) == 0: print("through to", address)
        s.close()
    if n % 20 == 0: print("tried")`) // prettier-ignore
    await waitFor("both", () => kept.lines().length > 2 && prober.lines().length > 2)

    for (const run of taken.filter((one) => one !== mine.run && one !== other.run)) await pool.release(run)
    await pool.close() // what it held is closed; nothing was released
    const tries = prober.lines().length
    await waitFor("more tries without a bridge", () => prober.lines().length > tries + 2)
    pool = await openPool(
      [mine, other].map(({ run, at }, index) => ({
        runId: run,
        tenantId: index === 0 ? A : B,
        network: index === 0 ? limits : OPEN,
        names: [],
        address: at,
        pid: holders[index]?.pid ?? 0,
      })),
    )
    await waitFor("more tries with the next", () => prober.lines().length > tries + 5)
    expect(prober.lines().filter((line) => line !== "tried")).toEqual([])
    const heard = kept.lines().length
    await waitFor("the old connection", () => kept.lines().length > heard + 2)
    expect(kept.lines().at(-1)).toBe("heard")
    expect(await pool.describe(mine.run)).toMatchObject({ egress: ["198.51.100.0/24"], egress_bytes_per_second: 2_000_000 })
    expect(await net.reaches(inside, other.at, PORT)).toBe(false)
    await pool.setLimits(mine.run, OPEN)
    expect(await net.reaches(inside, near.address, PORT)).toBe(true)
    await prober.stop()
    await kept.stop()
    for (const holder of holders) holder.kill("SIGKILL")
  })

  it("does what its record says though it had died before doing it", async () => {
    const mine = await place(A)
    const holder = spawn("nsenter", [`--net=${mine.netnsPath}`, "sleep", "60"], { stdio: "ignore" })
    await waitFor("the holder", () => readlinkSync(`/proc/${holder.pid ?? 0}/ns/net`) === readlinkSync(mine.netnsPath))
    const inside = `/proc/${holder.pid ?? 0}/ns/net`
    const live = { runId: mine.run, tenantId: A, names: [], pid: holder.pid ?? 0 }
    await pool.close()
    pool = await openPool([{ ...live, network: { egress: "none" }, address: mine.at }])
    expect(await net.within(inside, "ip", "-o", "link", "show")).toMatch(/^1: lo:[^\n]*\n$/)
    await pool.close()
    pool = await openPool([{ ...live, network: OPEN, address: null }])
    expect(await net.reaches(inside, near.address, PORT)).toBe(true)
    holder.kill("SIGKILL")
  })

  it("closes everything to a container of which no record tells", async () => {
    const mine = await place(A)
    const holder = spawn("nsenter", [`--net=${mine.netnsPath}`, "sleep", "60"], { stdio: "ignore" })
    await waitFor("the holder", () => readlinkSync(`/proc/${holder.pid ?? 0}/ns/net`) === readlinkSync(mine.netnsPath))
    const inside = `/proc/${holder.pid ?? 0}/ns/net`
    await pool.close()
    pool = await openPool()
    expect(await net.reaches(inside, near.address, PORT)).toBe(false)
    holder.kill("SIGKILL")
  })
})

describe("a packet filter that somebody took away", () => {
  it("is back with the next container, or the next look, with everybody in it", async () => {
    const mine = await place(A, { egress: ["198.51.100.0/24"] })
    const table = /berth_[0-9a-f]{6}/.exec(JSON.stringify(await ownTable()))?.[0] ?? ""
    execFileSync("nft", ["delete", "table", "inet", table])
    await pool.refill()
    expect(hostTable()).toContain(table)
    expect(await net.reaches(mine.netnsPath, near.address, PORT)).toBe(false)
    execFileSync("nft", ["delete", "table", "inet", table])
    const next = await place(A)
    expect(await net.reaches(mine.netnsPath, near.address, PORT)).toBe(false)
    expect(await net.reaches(mine.netnsPath, far.address, PORT)).toBe(true)
    expect(await net.reaches(next.netnsPath, near.address, PORT)).toBe(true)
  })
})

/** The one table whose rules speak of this test's range. */
const ownTable = async () =>
  hostTable().split("\n").filter((line) => line.includes("berth_")).map((line) => line.replace("table inet ", "")).find((name) => execFileSync("nft", ["list", "table", "inet", name], { encoding: "utf8" }).includes(RANGE)) // prettier-ignore
