import { execFileSync } from "node:child_process"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { NamespacePool } from "../../node-bridge/network/pool.ts"

const iptables = (...args: string[]) =>
  execFileSync("iptables", ["-w", "5", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
const tables = () => execFileSync("nft", ["list", "tables"], { encoding: "utf8" })
const rules = () => iptables("-S", "DOCKER-USER").split("\n").filter((line) => line.includes("100.92.0.0/24")) // prettier-ignore
const openPool = async () => {
  const pool = await NamespacePool.open({ stateDir: `/test/docker/${process.pid}`, range: "100.92.0.0/24", size: 0 })
  await pool.recover([])
  return pool
}

/** Docker's own chain when a daemon runs here; otherwise one that nothing jumps to. */
describe("beside Docker, which drops what it does not know", () => {
  const before = tables()
  let made = false

  beforeAll(() => {
    try {
      iptables("-n", "-L", "DOCKER-USER")
    } catch {
      iptables("-N", "DOCKER-USER")
      made = true
    }
  })
  afterAll(() => {
    if (made) iptables("-X", "DOCKER-USER")
    if (!before.includes("table ip filter\n")) execFileSync("nft", ["delete", "table", "ip", "filter"])
  })

  it("accepts the containers' range in the chain that Docker leaves to others, once, and takes it out at the end", async () => {
    const first = await openPool()
    expect(first.notes.join()).toContain("DOCKER-USER")
    const again = await openPool()
    expect(rules().toSorted()).toEqual(["-A DOCKER-USER -d 100.92.0.0/24 -j ACCEPT", "-A DOCKER-USER -s 100.92.0.0/24 -j ACCEPT"])
    await again.close()
    await first.close()
    expect(rules()).toEqual([])
  })
})
