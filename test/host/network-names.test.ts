import { createConnection } from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { NamespacePool } from "../../node-bridge/network/pool.ts"
import type { Network as Limits } from "../../schema/container.ts"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { anId } from "../support/assignments.ts"
import { aQuery, ask, replyTo, upstream } from "../support/dns.ts"
import type { Upstream } from "../support/dns.ts"
import { elsewhere, reaches, script, within } from "../support/networks.ts"
import type { Elsewhere } from "../support/networks.ts"
import { waitFor } from "../support/wait-for.ts"

const GATEWAY = "100.96.0.1"
const OPEN = { egress: "open" } as const
const A = anId("ten")
const B = anId("ten")
const NXDOMAIN = 3
const REFUSED = 5
const SERVFAIL = 2
const stateDir = `/test/network-names/${process.pid}`

let world: Upstream
let out: Elsewhere
let pool: NamespacePool
const taken: RunId[] = []
/** Answers that a public name has in this test. */
const PUBLIC: Readonly<Record<string, readonly string[]>> = {
  "example.org": ["203.0.113.7"],
  "rebound.example": ["203.0.113.7", "10.0.0.1"],
  "metadata.example": ["169.254.169.254"],
  "neighbour.example": ["100.96.0.2"],
  "many.example": Array.from({ length: 90 }, (_, index) => `203.0.113.${index + 1}`),
}

async function place(tenantId: TenantId, names: readonly string[], limits: Limits = OPEN) {
  const run = anId("run")
  taken.push(run)
  const network = await pool.take(run, tenantId, limits, names)
  const at = network.address ?? ""
  return { run, at, asks: (name: string, more = {}) => ask(network.netnsPath, GATEWAY, aQuery(name, more)), ...network }
}

beforeAll(async () => {
  out = await elsewhere("bt-names", "203.0.113")
  world = await upstream((name, packet, by) => {
    if (name === "silent.example") return null
    if (name === "long.example") {
      const all = Array.from({ length: 200 }, (_, index) => `203.0.113.${index + 1}`)
      return by === "udp" ? [replyTo(packet, [], { flags: 0x8380 })] : all
    }
    // A stranger who was quicker but does not know the number, or the question.
    if (name === "forged.example") {
      const wrong = replyTo(packet, ["203.0.113.66"], { id: packet.readUInt16BE(0) ^ 1 })
      return [
        wrong,
        replyTo(aQuery("other.example", { id: packet.readUInt16BE(0) }), ["203.0.113.66"]),
        replyTo(packet, ["203.0.113.8"]),
      ]
    }
    return PUBLIC[name] ?? [replyTo(packet, [], { flags: 0x8183 })]
  })
  pool = await NamespacePool.open({ stateDir, range: "100.96.0.0/24", size: 0, nameservers: [world.address] })
  await pool.recover([])
})

afterAll(async () => {
  for (const run of taken) await pool.release(run)
  await pool.close()
  await world.close()
  await out.close()
})

describe("names of containers", () => {
  it("lead their tenant's containers to each other, bare and in full, in any case of letters", async () => {
    const db = await place(A, ["db"])
    const web = await place(A, ["web"], { egress: ["198.51.100.0/24"] })
    for (const name of ["db", "DB", "db.berth.internal", "Db.Berth.Internal"])
      expect(await web.asks(name)).toMatchObject({ rcode: 0, addresses: [db.at] })
    expect(await db.asks("web")).toMatchObject({ rcode: 0, addresses: [web.at] })
    expect(await db.asks("web", { type: 28 })).toMatchObject({ rcode: 0, addresses: [] })
  })

  it("mean nothing to another tenant, nor one that no container has to anybody", async () => {
    const mine = await place(A, ["mine"])
    const theirs = await place(B, ["theirs", "mine"])
    expect(await theirs.asks("mine")).toMatchObject({ addresses: [theirs.at] })
    expect(await mine.asks("mine")).toMatchObject({ addresses: [mine.at] })
    for (const name of ["theirs", "theirs.berth.internal", "nobody", "nobody.berth.internal", "a.mine.berth.internal"])
      expect(await mine.asks(name)).toMatchObject({ rcode: NXDOMAIN, addresses: [] })
    expect(world.asked.filter(({ name }) => !name.includes(".") || name.endsWith("internal"))).toEqual([])
  })

  it("move with a container's next run, and end with its last", async () => {
    const asker = await place(A, ["asker"])
    const first = await place(A, ["moving"])
    const second = await place(A, ["moving"])
    expect(await asker.asks("moving")).toMatchObject({ addresses: [second.at] })
    await pool.release(second.run)
    expect(await asker.asks("moving")).toMatchObject({ addresses: [first.at] })
    await pool.setLimits(first.run, { egress: "none" })
    expect(await asker.asks("moving")).toMatchObject({ rcode: NXDOMAIN })
  })
})

describe("names of the world", () => {
  it("are asked of the host's name servers, by UDP and TCP, with nothing of the asker's but the question", async () => {
    const { netnsPath, asks } = await place(A, ["reader"])
    expect(await asks("example.org", { edns: 4096 })).toMatchObject({
      id: 0x1234,
      rcode: 0,
      addresses: ["203.0.113.7"],
      extra: 1,
    })
    const query = aQuery("Example.org", { edns: 4096 })
    expect(await ask(netnsPath, GATEWAY, query, { by: "tcp" })).toMatchObject({ rcode: 0, addresses: ["203.0.113.7"], extra: 1 })
    const [udp, tcp] = world.asked.filter(({ name }) => name === "example.org").map(({ packet }) => packet)
    for (const packet of [udp, tcp]) {
      expect(packet?.length).toBe(12 + 13 + 4 + 11) // header, question, an OPT record without options
    }
    expect(new Set([udp, tcp].map((packet) => packet?.readUInt16BE(0))).has(0x1234) && udp?.readUInt16BE(0) === tcp?.readUInt16BE(0)).toBe(false) // prettier-ignore
  })

  it("come back without a word of the server about itself", async () => {
    const { asks } = await place(A, ["curious"])
    expect((await asks("example.org"))?.extra).toBe(0)
    const before = world.asked.length
    for (const name of ["version.bind", "id.server", "hostname.bind"])
      expect(await asks(name, { type: 16, klass: 3 })).toMatchObject({ rcode: REFUSED })
    for (const type of [252, 251, 255]) expect(await asks("example.org", { type })).toMatchObject({ rcode: REFUSED })
    expect(world.asked.length).toBe(before)
  })

  it("of private networks are nobody's, forwards and backwards", async () => {
    const { asks } = await place(A, ["insider"])
    const before = world.asked.length
    for (const name of [
      "metadata.google.internal",
      "printer.local",
      "1.0.0.10.in-addr.arpa",
      "2.0.96.100.in-addr.arpa",
      "168.192.in-addr.arpa",
    ])
      expect(await asks(name, { type: name.endsWith("arpa") ? 12 : 1 })).toMatchObject({ rcode: NXDOMAIN })
    expect(world.asked.length).toBe(before)
  })

  it("that lead to private addresses or neighbours are refused", async () => {
    const { asks } = await place(A, ["victim"])
    for (const name of ["rebound.example", "metadata.example", "neighbour.example"])
      expect(await asks(name)).toMatchObject({ rcode: REFUSED, addresses: [] })
  })

  it("are answered by whoever was asked, not by who is quicker", async () => {
    const { asks } = await place(A, ["careful"])
    expect(await asks("forged.example")).toMatchObject({ addresses: ["203.0.113.8"] })
    expect(new Set(world.asked.map(({ packet }) => packet.readUInt16BE(0))).size).toBeGreaterThan(3)
  })

  it("that have long answers come in full by TCP, and by UDP as far as the asker takes it", async () => {
    const { netnsPath, asks } = await place(A, ["patient"])
    expect(await asks("many.example")).toMatchObject({ truncated: true, addresses: [] })
    expect(await asks("long.example")).toMatchObject({ truncated: true, addresses: [] })
    expect((await ask(netnsPath, GATEWAY, aQuery("long.example"), { by: "tcp" }))?.addresses).toHaveLength(200)
  })

  it("are not asked for a container whose egress is a list, and not for long if nobody answers", async () => {
    const limited = await place(A, ["limited"], { egress: ["0.0.0.0/1"] })
    expect(await limited.asks("example.org")).toMatchObject({ rcode: REFUSED })
    const waiting = await place(A, ["waiting"])
    const began = performance.now()
    const source = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect(("${GATEWAY}", 53)); s.send(bytes.fromhex(sys.argv[1])); print(s.recv(500).hex())`
    const said = await within(waiting.netnsPath, "/usr/bin/python3", "-c", source, aQuery("silent.example").toString("hex"))
    expect(Buffer.from(said?.trim() ?? "", "hex").readUInt16BE(2) & 15).toBe(SERVFAIL)
    expect(performance.now() - began).toBeLessThan(4_500)
  })
})

describe("the name server", () => {
  it("is reached by port 53 of the host, and in no other way", async () => {
    const { netnsPath, nameservers } = await place(A, ["outside"])
    expect(nameservers).toEqual([GATEWAY])
    const port = Number(/redirect to :(\d+)/.exec(await rules())?.[1])
    expect(await ask(netnsPath, "203.0.113.254", aQuery("outside"))).toMatchObject({ rcode: 0 })
    await within(out.netns, "ip", "route", "add", "100.96.0.0/24", "via", "203.0.113.254")
    const strangers = [
      { from: netnsPath, address: GATEWAY, port },
      ...["203.0.113.254", GATEWAY].flatMap((address) => [53, port].map((one) => ({ from: out.netns, address, port: one }))),
    ]
    const answers = strangers.map(async ({ from, address, port: one }) => [
      await ask(from, address, aQuery("outside"), { port: one }),
      await reaches(from, address, one),
    ])
    expect(new Set((await Promise.all(answers)).flat())).toEqual(new Set([null, false]))
    // The host itself may connect, and is not answered.
    const closed = new Promise<boolean>((resolve) => {
      const socket = createConnection({ host: "127.0.0.1", port }, () => socket.write("\0\0"))
      socket.on("close", () => resolve(true)).on("error", () => {})
    })
    expect(await closed).toBe(true)
  })

  it("does not care for what is no question", async () => {
    const { netnsPath, asks } = await place(A, ["rude"])
    const noise = [
      Buffer.alloc(0),
      Buffer.from("hello"),
      Buffer.alloc(512, 0xff),
      aQuery("x").subarray(0, 14),
      Buffer.from("00010100000100000000000041", "hex"),
    ]
    const source = `
import socket, sys
for text in sys.argv[1:]:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(bytes.fromhex(text), ("${GATEWAY}", 53))
    t = socket.create_connection(("${GATEWAY}", 53), 1); t.sendall(bytes.fromhex(text)); t.close()`
    expect(await within(netnsPath, "/usr/bin/python3", "-c", source, ...noise.map((one) => one.toString("hex")))).toBe("")
    expect(await asks("rude")).toMatchObject({ rcode: 0 })
  })

  it("answers one tenant in time while another floods it by both protocols", async () => {
    const flooder = await place(B, ["flooder"])
    const calm = await place(A, ["calm"])
    const flood = (kind: string) =>
      script(
        flooder.netnsPath,
        `
import socket
query = bytes.fromhex("${aQuery("silent.example").toString("hex")}"); framed = len(query).to_bytes(2, "big") + query
print("begun")
while True:
    try:
        if "${kind}" == "udp":
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("${GATEWAY}", 53))
            while True: s.send(query)
        s = socket.create_connection(("${GATEWAY}", 53), 1)
        s.settimeout(1)
        while True: s.sendall(framed * 500)
    except OSError: pass`,
      )
    const floods = [await flood("udp"), await flood("tcp")]
    try {
      await waitFor("the floods", () => floods.every((one) => one.lines().includes("begun")))
      const times = await within(calm.netnsPath, "/usr/bin/python3", "-c", `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.connect(("${GATEWAY}", 53))
for name in ("${aQuery("calm").toString("hex")}", "${aQuery("example.org").toString("hex")}") * 15:
    begin = time.monotonic(); s.send(bytes.fromhex(name)); s.recv(500); print(round((time.monotonic() - begin) * 1000)); time.sleep(0.03)`) // prettier-ignore
      const ms = (times ?? "").trim().split("\n").map(Number)
      expect(ms).toHaveLength(30)
      expect(Math.max(...ms)).toBeLessThan(500)
    } finally {
      for (const one of floods) await one.stop()
    }
    expect(await reaches(calm.netnsPath, GATEWAY, 53)).toBe(true)
  })

  it("knows its containers again after a restart", async () => {
    const asker = await place(A, ["asker"])
    const holder = await script(asker.netnsPath, `import time\nprint("in")\ntime.sleep(60)`)
    await waitFor("the holder", () => holder.lines().includes("in"))
    await pool.close()
    pool = await NamespacePool.open({ stateDir, range: "100.96.0.0/24", size: 0, nameservers: [world.address] })
    const live = { runId: asker.run, tenantId: A, network: OPEN, names: ["asker"], address: asker.at, pid: holder.pid }
    await pool.recover([live])
    expect(await ask(`/proc/${holder.pid}/ns/net`, GATEWAY, aQuery("asker"))).toMatchObject({ rcode: 0, addresses: [asker.at] })
    await holder.stop()
  })
})

async function rules(): Promise<string> {
  const tables = (await within("/proc/self/ns/net", "nft", "list", "ruleset")) ?? ""
  return tables.split(/^table /m).find((table) => table.includes("100.96.0.0/24")) ?? ""
}
