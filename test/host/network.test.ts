import { execFileSync, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { closeSync, existsSync, readFileSync, readdirSync, readlinkSync } from "node:fs"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { linkPrefix } from "../../node-bridge/network/addresses.ts"
import { NamespaceMaker } from "../../node-bridge/network/namespaces.ts"
import { NamespacePool } from "../../node-bridge/network/pool.ts"
import { formatId } from "../../schema/ids.ts"
import type { RunId } from "../../schema/ids.ts"
import { collectDatagrams, elsewhere, listen, reaches, sendDatagram, within } from "../support/networks.ts"
import type { Elsewhere, Server } from "../support/networks.ts"
import { waitFor } from "../support/wait-for.ts"

/** Ranges of the test's own, so that a platform on the same machine is not disturbed. */
const RANGE = "100.91.0.0/24"
const TENANT = formatId("ten", 1, new Uint8Array(10))
const OTHER_TENANT = formatId("ten", 2, new Uint8Array(10))
const PORT = 8080

const runs: RunId[] = []
function aRun(): RunId {
  const run = formatId("run", runs.length, new Uint8Array(10))
  runs.push(run)
  return run
}
const stateDir = `/test/network/${process.pid}`
const ours = linkPrefix(createHash("sha256").update(stateDir).digest("hex")).slice(1)
/** Links and tables of this test's bridge that are there now. */
const remains = () => [...links(), ...tables().split("\n")].filter((name) => name.includes(ours))

/** As the platform does it: every run is released before the pool closes, and then nothing stays. */
async function closeAll(pool: NamespacePool | undefined): Promise<void> {
  for (const run of runs) await pool?.release(run)
  await pool?.close()
}
const links = () => readdirSync("/sys/class/net")
const tables = () => execFileSync("nft", ["list", "tables"], { encoding: "utf8" })
type Options = Partial<Parameters<typeof NamespacePool.open>[0]>
const openPool = async (more: Options = {}, live: Parameters<NamespacePool["recover"]>[0] = []) => {
  const pool = await NamespacePool.open({ stateDir, range: RANGE, size: 2, ...more })
  await pool.recover(live)
  return pool
}

describe("what a container's network lets through", () => {
  let pool: NamespacePool
  let out: Elsewhere
  let metadata: Elsewhere
  let internal: Elsewhere
  let one: { netnsPath: string; address: string | null }
  let two: { netnsPath: string; address: string | null }
  const servers: Server[] = []

  beforeAll(async () => {
    out = await elsewhere("bt-out", "203.0.113")
    metadata = await elsewhere("bt-meta", "169.254.169")
    internal = await elsewhere("bt-docker", "172.31.250")
    pool = await openPool({ closedNetworks: ["198.51.100.0/24"] })
    one = await pool.take(aRun(), TENANT, { egress: "open" }, [])
    two = await pool.take(aRun(), OTHER_TENANT, { egress: "open" }, [])
    servers.push(await listen(null, PORT))
    for (const { netns } of [out, metadata, internal]) servers.push(await listen(netns, PORT))
    for (const { netnsPath } of [one, two]) servers.push(await listen(netnsPath, PORT))
  })

  afterAll(async () => {
    for (const server of servers) await server.stop()
    await closeAll(pool)
    for (const place of [out, metadata, internal]) await place.close()
  })

  it("reaches the world through the host's address", async () => {
    expect(await reaches(one.netnsPath, out.address, PORT)).toBe(true)
  })

  it("reaches itself, by its own address and by loopback", async () => {
    expect(await reaches(one.netnsPath, one.address ?? "", PORT)).toBe(true)
    expect(await reaches(one.netnsPath, "127.0.0.1", PORT)).toBe(true)
  })

  it("does not reach another container", async () => {
    expect(await reaches(one.netnsPath, two.address ?? "", PORT)).toBe(false)
  })

  it("does not reach the host, by its gateway's address or any other", async () => {
    const gateway = "100.91.0.1"
    const addresses: string[] = JSON.parse(execFileSync("ip", ["-j", "-4", "addr"], { encoding: "utf8" })).flatMap(
      ({ addr_info }: { addr_info: { local: string }[] }) => addr_info.map(({ local }) => local),
    )
    expect(addresses).toContain(gateway)
    for (const address of new Set(addresses.filter((text) => !text.startsWith("127."))))
      expect([address, await reaches(one.netnsPath, address, PORT)]).toEqual([address, false])
  })

  it("does not reach link-local, where clouds keep their metadata, nor private networks", async () => {
    // From the host both answer: what is tested below is the filter, not a dead server.
    for (const { address } of [metadata, internal]) {
      expect(execFileSync("busybox", ["nc", "-w", "1", address, String(PORT)], { encoding: "utf8" })).toContain("hello")
      expect(await reaches(one.netnsPath, address, PORT)).toBe(false)
    }
  })

  it("is not reached from outside", async () => {
    await within(out.netns, "ip", "route", "add", "100.91.0.0/24", "via", "203.0.113.254")
    expect(await reaches(out.netns, one.address ?? "", PORT)).toBe(false)
    await within(out.netns, "ip", "route", "delete", "100.91.0.0/24")
  })

  it("lets a packet out with the container's own address only", async () => {
    const collector = await collectDatagrams(out.netns, 9)
    try {
      for (const [source, text] of [
        ["203.0.113.77", "as-a-stranger"],
        [two.address ?? "", "as-a-neighbour"],
        ["203.0.113.254", "as-the-host"],
      ] as const) {
        expect(await sendDatagram(one.netnsPath, source, out.address, 9, text)).not.toBeNull()
      }
      await sendDatagram(one.netnsPath, one.address ?? "", out.address, 9, "as-itself")
      await waitFor("the honest datagram", () => collector.seen().includes("as-itself"))
      expect(collector.seen()).toBe("ready\nas-itself\n")
    } finally {
      await collector.stop()
    }
  })

  it("has no IPv6 but on loopback", async () => {
    const addresses = await within(one.netnsPath, "ip", "-6", "-o", "addr")
    expect(addresses).toMatch(/: lo\s+inet6 ::1/)
    expect(addresses).not.toContain("eth0")
  })

  it("lets every port be bound and pings be sent without a capability", async () => {
    expect(await within(one.netnsPath, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")).toBe("0\n")
    expect(await within(one.netnsPath, "cat", "/proc/sys/net/ipv4/ping_group_range")).toBe("0\t2147483647\n")
  })
})

describe("a network with loopback only", () => {
  it("has nothing else", async () => {
    const pool = await openPool()
    try {
      const network = await pool.take(aRun(), TENANT, { egress: "none" }, [])
      expect(network).toMatchObject({ address: null })
      expect(await within(network.netnsPath, "ip", "-o", "link", "show", "up")).toMatch(/^1: lo:[^\n]*\n$/)
      expect(await within(network.netnsPath, "ip", "route")).toBe("")
    } finally {
      await closeAll(pool)
    }
  })
})

it("gives every one of many namespaces its own settings, and leaves the host's as they were", async () => {
  const files = ["ip_unprivileged_port_start", "ping_group_range"].map((name) => `/proc/sys/net/ipv4/${name}`)
  const onHost = () => files.map((file) => readFileSync(file, "utf8"))
  const before = onHost()
  const maker = new NamespaceMaker()
  const made = Array.from({ length: 150 }, () => maker.loopbackOnly())
  try {
    for (const fd of [made.at(0), made.at(81), made.at(-1)]) {
      expect(await within(`/proc/${process.pid}/fd/${fd}`, "cat", ...files)).toMatch(/^0\n0\s+2147483647\n?$/)
    }
    expect(onHost()).toEqual(before)
  } finally {
    for (const fd of made) closeSync(fd)
    maker.close()
  }
})

describe("the pool of networks", () => {
  let pool: NamespacePool | undefined

  afterEach(async () => {
    await closeAll(pool)
    pool = undefined
    expect(remains()).toEqual([])
  })

  it("leaves nothing behind when it closes, and never moves the thread out of the host's network", async () => {
    const home = readlinkSync("/proc/self/ns/net")
    pool = await openPool()
    await pool.refill()
    const run = aRun()
    await pool.take(run, TENANT, { egress: "open" }, [])
    await pool.release(run)
    await pool.close()
    expect(remains()).toEqual([])
    expect(readlinkSync("/proc/self/ns/net")).toBe(home)
    expect(existsSync("/run/netns") && readdirSync("/run/netns").length > 0).toBe(false)
  })

  it("gives a run its network again, and two runs two", async () => {
    pool = await openPool()
    const [first, second] = [aRun(), aRun()]
    const network = await pool.take(first, TENANT, { egress: "open" }, [])
    expect(await pool.take(first, TENANT, { egress: "open" }, [])).toEqual(network)
    expect((await pool.take(second, TENANT, { egress: "open" }, [])).address).not.toBe(network.address)
  })

  it("serves a burst far beyond its size at once", async () => {
    pool = await openPool({ size: 4 })
    const networks = await Promise.all(Array.from({ length: 40 }, () => pool?.take(aRun(), TENANT, { egress: "open" }, [])))
    expect(new Set(networks.map((network) => network?.address)).size).toBe(40)
  })

  it("takes over living networks after a restart, closes all others and keeps the rules on", async () => {
    pool = await openPool()
    const [living, dead] = [aRun(), aRun()]
    const { netnsPath, address } = await pool.take(living, TENANT, { egress: "open" }, [])
    const gone = await pool.take(dead, TENANT, { egress: "open" }, [])
    const holders = [netnsPath, gone.netnsPath].map((path) =>
      spawn("nsenter", [`--net=${path}`, "sleep", "60"], { stdio: "ignore" }),
    )
    const [livingPid = 0, deadPid = 0] = holders.map(({ pid }) => pid)
    for (const [pid, path] of [
      [livingPid, netnsPath],
      [deadPid, gone.netnsPath],
    ] as const)
      // prettier-ignore
      await waitFor("the process to be inside", () => readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync(path))
    await pool.close()
    try {
      expect(tables()).toContain("berth_")
      const network = { egress: "open" } as const
      pool = await openPool({}, [{ runId: living, tenantId: TENANT, network, names: [], address, pid: livingPid }])
      expect(links().filter((name) => name.includes(ours))).toHaveLength(1)
      const again = await pool.take(living, TENANT, { egress: "open" }, [])
      expect(again.address).toBe(address)
      expect(readlinkSync(again.netnsPath)).toBe(readlinkSync(`/proc/${livingPid}/ns/net`))
      expect((await pool.take(aRun(), TENANT, { egress: "open" }, [])).address).not.toBe(address)
    } finally {
      for (const holder of holders) holder.kill("SIGKILL")
    }
  })

  it("passes by addresses that another bridge on the host uses, and leaves that one's rules alone", async () => {
    pool = await openPool()
    const other = await openPool({ stateDir: `/test/other/${process.pid}` })
    const run = aRun()
    const { address } = await pool.take(run, TENANT, { egress: "open" }, [])
    const theirs = await other.take(run, TENANT, { egress: "open" }, [])
    expect(theirs.address).not.toBe(address)
    const both = tables()
    await closeAll(other)
    await pool.take(run, TENANT, { egress: "open" }, [])
    expect(both.split("\n").length - tables().split("\n").length).toBe(1)
  })

  it("refuses a range into which the host already routes", async () => {
    const route = readFileSync("/proc/net/route", "utf8")
    expect(route).toContain("eth0")
    const network =
      execFileSync("ip", ["-4", "route", "show", "dev", "eth0", "scope", "link"], { encoding: "utf8" }).split("/")[0] ?? ""
    await expect(openPool({ range: `${network}/24` })).rejects.toThrow(/overlaps a route/)
  })
})
