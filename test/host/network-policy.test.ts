import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { macOf } from "../../node-bridge/network/addresses.ts"
import { NamespacePool } from "../../node-bridge/network/pool.ts"
import { anId } from "../support/assignments.ts"
import { ECHO_PORT, OPEN, openNetworkBench } from "../support/network-bench.ts"
import type { NetworkBench, Place } from "../support/network-bench.ts"
import * as net from "../support/networks.ts"
import { waitFor } from "../support/wait-for.ts"

const A = anId("ten")
const B = anId("ten")
const GATEWAY = "100.93.0.1"
let bench: NetworkBench

beforeAll(async () => {
  bench = await openNetworkBench("network-policy", 0)
})
afterAll(() => bench.close())

/** What the host believes of who is where in the range. */
const neighbours = () => execFileSync("ip", ["-4", "neigh"], { encoding: "utf8" }).split("\n").filter((line) => line.includes("100.93.0.")).toSorted() // prettier-ignore

/** What connecting comes to, by its errno. */
const outcomeOf = ({ netnsPath }: Place, address: string) =>
  net.within(netnsPath, "/usr/bin/python3", "-c", `import socket\ns = socket.socket(); s.settimeout(1)\nprint(s.connect_ex(("${address}", ${ECHO_PORT})))`) // prettier-ignore

describe("containers on one node", () => {
  let one: Place
  let two: Place
  let other: Place

  beforeAll(async () => {
    one = await bench.place(A)
    two = await bench.place(A, { egress: ["198.51.100.0/24"] })
    other = await bench.place(B)
    for (const { netnsPath } of [one, two, other]) await bench.echoes(netnsPath)
  })

  it("reach those of their tenant, whatever their egress, by TCP, UDP and ICMP", async () => {
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      expect(await net.reaches(from.netnsPath, to.at, ECHO_PORT)).toBe(true)
      expect(await net.datagramReturns(from.netnsPath, to.at, ECHO_PORT)).toBe(true)
      expect(await net.pings(from.netnsPath, to.at)).toBe(true)
    }
  })

  it("reach no other tenant's by any of these", async () => {
    for (const [from, to] of [
      [one, other],
      [other, one],
      [other, two],
    ] as const) {
      expect(await net.reaches(from.netnsPath, to.at, ECHO_PORT)).toBe(false)
      expect(await net.datagramReturns(from.netnsPath, to.at, ECHO_PORT)).toBe(false)
      expect(await net.pings(from.netnsPath, to.at)).toBe(false)
    }
  })

  it("cannot tell another tenant's address from one that nobody has", async () => {
    const refused = await outcomeOf(one, other.at)
    expect(refused).toMatch(/^\d+\n$/)
    expect(await outcomeOf(one, "100.93.0.200")).toBe(refused)
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
    expect(await net.reaches(other.netnsPath, bench.near.address, ECHO_PORT)).toBe(true)
    expect(await net.reaches(one.netnsPath, two.at, ECHO_PORT)).toBe(true)
    await net.within(one.netnsPath, "ip", "addr", "del", `${other.at}/32`, "dev", "eth0")
  })

  it("send nothing out under an address that is not theirs, the gateway's and a neighbour's included", async () => {
    const friend = await bench.place(A)
    const collector = await net.collectDatagrams(two.netnsPath, 9)
    try {
      for (const source of [GATEWAY, friend.at, other.at, two.at, bench.near.address])
        expect(await net.sendDatagram(one.netnsPath, source, two.at, 9, "forged")).not.toBeNull()
      await net.sendDatagram(one.netnsPath, one.at, two.at, 9, "honest")
      await waitFor("the honest datagram", () => collector.seen().includes("honest"))
      expect(collector.seen()).toBe("ready\nhonest\n")
    } finally {
      await collector.stop()
    }
  })

  it("gain nothing by another hardware address but their own silence", async () => {
    const thief = await bench.place(A)
    await net.within(thief.netnsPath, "ip", "link", "set", "eth0", "address", macOf(other.at))
    expect(await net.reaches(two.netnsPath, thief.at, ECHO_PORT)).toBe(false)
    expect(await net.reaches(thief.netnsPath, other.at, ECHO_PORT)).toBe(false)
    expect(await net.reaches(other.netnsPath, bench.near.address, ECHO_PORT)).toBe(true)
  })
})

describe("egress as a list", () => {
  it("lets exactly those networks through, by every protocol", async () => {
    const { netnsPath } = await bench.place(A, { egress: ["198.51.100.0/24", "198.51.100.7/32", "203.0.113.2/31"] })
    expect(await net.reaches(netnsPath, bench.far.address, ECHO_PORT)).toBe(true)
    expect(await net.datagramReturns(netnsPath, bench.far.address, ECHO_PORT)).toBe(true)
    expect(await net.pings(netnsPath, bench.far.address)).toBe(true)
    expect(await net.reaches(netnsPath, bench.near.address, ECHO_PORT)).toBe(false)
    expect(await net.datagramReturns(netnsPath, bench.near.address, ECHO_PORT)).toBe(false)
    expect(await net.pings(netnsPath, bench.near.address)).toBe(false)
  })

  it("is refused by name when it lies in what the platform closes, and never opens a closed part of it", async () => {
    for (const closed of ["169.254.169.254/32", "10.1.0.0/16", "198.51.100.192/26"]) {
      await expect(bench.place(A, { egress: ["203.0.113.0/24", closed] })).rejects.toThrow(closed)
    }
    const { netnsPath, address } = await bench.place(A, { egress: ["0.0.0.0/0"] })
    const metadata = await net.elsewhere("bt-meta2", "169.254.169")
    await net.within(bench.far.netns, "ip", "addr", "add", "198.51.100.200/32", "dev", "eth0")
    await bench.echoes(metadata.netns)
    expect(execFileSync("sh", ["-c", `busybox nc -w 1 198.51.100.200 ${ECHO_PORT} </dev/null && echo there`]).toString()).toBe(
      "there\n",
    )
    const collector = await net.collectDatagrams(bench.far.netns, 9)
    try {
      // Not only is nothing answered: nothing gets there.
      await net.sendDatagram(netnsPath, address ?? "", "198.51.100.200", 9, "closed")
      await net.sendDatagram(netnsPath, address ?? "", bench.far.address, 9, "open")
      await waitFor("the datagram", () => collector.seen().includes("open"))
      expect(collector.seen()).toBe("ready\nopen\n")
      expect(await net.reaches(netnsPath, bench.far.address, ECHO_PORT)).toBe(true)
      expect(await net.reaches(netnsPath, "198.51.100.200", ECHO_PORT)).toBe(false)
      expect(await net.reaches(netnsPath, metadata.address, ECHO_PORT)).toBe(false)
    } finally {
      await collector.stop()
      await metadata.close()
    }
  })
})

describe("a change of a live container's network", () => {
  it("holds for open connections: cut off in both directions, and let on", async () => {
    const { run, netnsPath } = await bench.place(A)
    const cut = await net.conversation(netnsPath, bench.near.address, ECHO_PORT)
    const kept = await net.conversation(netnsPath, bench.far.address, ECHO_PORT)
    await waitFor("both to talk", () => cut.lines().includes("heard") && kept.lines().includes("heard"))
    await bench.pool.setLimits(run, { egress: ["198.51.100.0/24"] })
    await waitFor("the one to be cut", () => cut.lines().some((line) => line.startsWith("ended")))
    const heard = kept.lines().length
    await waitFor("the other to go on", () => kept.lines().length > heard + 2)
    expect(kept.lines().at(-1)).toBe("heard")
    expect(await net.reaches(netnsPath, bench.near.address, ECHO_PORT)).toBe(false)
    await bench.pool.setLimits(run, OPEN)
    expect(await net.reaches(netnsPath, bench.near.address, ECHO_PORT)).toBe(true)
    await cut.stop()
    await kept.stop()
  })

  it("stops what still comes in on a connection that may no longer be", async () => {
    const { run, netnsPath } = await bench.place(A)
    const stream = await net.script(bench.near.netns, `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 99)); _, to = s.recvfrom(100)
while True: s.sendto(b"more", to); time.sleep(0.02)`) // prettier-ignore
    const listener = await net.script(netnsPath, `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 99))
s.settimeout(0.1)
while True:
    try: s.sendto(b"begin", ("${bench.near.address}", 99)); s.recv(100); break
    except OSError: pass
s.settimeout(0.5); print("got")
while True:
    try: s.recv(100); print("got")
    except TimeoutError: print("quiet")`) // prettier-ignore
    try {
      await waitFor("the stream", () => listener.lines().length > 5)
      await bench.pool.setLimits(run, { egress: ["198.51.100.0/24"] })
      await waitFor("silence", () => listener.lines().at(-1) === "quiet")
      await bench.pool.setLimits(run, OPEN)
      await waitFor("the stream again", () => listener.lines().at(-1) === "got")
    } finally {
      await stream.stop()
      await listener.stop()
    }
  })

  it("to what the platform closes takes away what was open, and opens nothing", async () => {
    const { run, netnsPath } = await bench.place(A)
    await bench.pool.setLimits(run, { egress: ["198.51.100.200/32"] })
    expect(await net.reaches(netnsPath, bench.near.address, ECHO_PORT)).toBe(false)
    expect(await net.reaches(netnsPath, "198.51.100.200", ECHO_PORT)).toBe(false)
  })

  it("takes the link away for none, and gives one again", async () => {
    const { run, netnsPath } = await bench.place(A)
    expect(await bench.pool.setLimits(run, { egress: "none" })).toBeNull()
    expect(await net.within(netnsPath, "ip", "-o", "link", "show")).toMatch(/^1: lo:[^\n]*\n$/)
    expect(await bench.pool.describe(run)).toMatchObject({ egress: "none", rules: [] })
    const address = await bench.pool.setLimits(run, { egress: ["198.51.100.0/24"] })
    expect(await net.within(netnsPath, "ip", "-4", "-o", "addr", "show", "dev", "eth0")).toContain(`${address}/32`)
    expect(await net.reaches(netnsPath, bench.far.address, ECHO_PORT)).toBe(true)
    expect(await net.reaches(netnsPath, bench.near.address, ECHO_PORT)).toBe(false)
    const { netnsPath: never, run: alone } = await bench.place(A, { egress: "none" })
    await bench.pool.setLimits(alone, OPEN)
    expect(await net.reaches(never, bench.near.address, ECHO_PORT)).toBe(true)
  })
})

describe("a tenant that opens connections without end", () => {
  it("takes its share of the host's table of them, and nobody else's", async () => {
    const crowd = await bench.place(A)
    const calm = await bench.place(B)
    const source = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(20000, 40000):
    try: s.sendto(b"x", ("${bench.near.address}", port))
    except OSError: s.sendto(b"x", ("${bench.near.address}", port))`
    await net.within(crowd.netnsPath, "/usr/bin/python3", "-c", source)
    const open = readFileSync("/proc/net/nf_conntrack", "latin1").split("\n").filter((line) => line.includes(`src=${crowd.at} `)).length // prettier-ignore
    expect(open).toBeGreaterThan(1_000)
    expect(open).toBeLessThan(8_400)
    expect(await net.reaches(calm.netnsPath, bench.near.address, ECHO_PORT)).toBe(true)
  })
})

describe("an address that comes to another container", () => {
  it("brings none of the connections of the one that had it", async () => {
    const small = await NamespacePool.open({ stateDir: `/test/network-small/${process.pid}`, range: "100.94.0.0/28", size: 0 })
    await small.recover([])
    const first = anId("run")
    const { netnsPath, address } = await small.take(first, A, OPEN, [])
    const stream = await net.script(bench.near.netns, `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 98)); _, to = s.recvfrom(100); print("begun")
while True: s.sendto(b"secret", to); time.sleep(0.02)`) // prettier-ignore
    await waitFor("the stream", async () => {
      await net.sendDatagram(netnsPath, address ?? "", bench.near.address, 98, "begin")
      return stream.lines().includes("begun")
    })
    await small.release(first)
    // Its slot comes round again once the kernel has taken its link down.
    const { run, next } = await waitFor("the address again", async () => {
      const candidate = anId("run")
      const network = await small.take(candidate, B, OPEN, []).catch(() => null)
      if (network?.address === address) return { run: candidate, next: network }
      await small.release(candidate)
      return null
    })
    const collector = await net.script(next.netnsPath, `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)); s.bind(("eth0", 0x0800)); print("ready")
while True: print(s.recv(100)[28:])`) // prettier-ignore
    await waitFor("the collector", () => collector.lines().includes("ready"))
    expect(await net.reaches(next.netnsPath, bench.near.address, ECHO_PORT)).toBe(true)
    expect(collector.lines().join()).not.toContain("secret")
    await collector.stop()
    await stream.stop()
    await small.release(run)
    await small.close()
  })
})
