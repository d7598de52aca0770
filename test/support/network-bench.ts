/** A bridge's networks with two places of the world beside them, both echoing at `ECHO_PORT`. */
import { execFileSync, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { readdirSync, readlinkSync } from "node:fs"
import { linkPrefix } from "../../node-bridge/network/addresses.ts"
import { NamespacePool } from "../../node-bridge/network/pool.ts"
import { tableName } from "../../node-bridge/network/rules.ts"
import type { LiveNetwork, Network } from "../../node-bridge/runtime/ports.ts"
import type { Network as Limits } from "../../schema/container.ts"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { anId } from "./assignments.ts"
import { echoes, elsewhere } from "./networks.ts"
import type { Elsewhere, Server } from "./networks.ts"
import { waitFor } from "./wait-for.ts"

export const OPEN = { egress: "open" } as const
export const ECHO_PORT = 8080

export type Place = Network & { readonly run: RunId; readonly tenantId: TenantId; readonly limits: Limits; readonly at: string }

export interface NetworkBench {
  pool: NamespacePool
  /** 203.0.113.1, and 198.51.100.1, of whose network the upper half is closed as the provider's. */
  readonly near: Elsewhere
  readonly far: Elsewhere
  place(tenantId: TenantId, limits?: Limits): Promise<Place>
  echoes(netns: string): Promise<void>
  /** A process that keeps a place alive, as a container's would. */
  hold(place: Place): Promise<{ readonly inside: string; readonly live: LiveNetwork }>
  /** Another bridge on the same state after the one before ended without releasing anything. */
  restart(live: readonly LiveNetwork[]): Promise<void>
  close(): Promise<void>
}

/** `third` is the third byte of the range's addresses, so that files do not share one; links are named by `name`. */
export async function openNetworkBench(name: string, third: number): Promise<NetworkBench> {
  const servers: Server[] = []
  const taken = new Set<RunId>()
  const holders: { kill(signal: "SIGKILL"): boolean }[] = []
  const stateDir = `/test/${name}/${process.pid}`
  const instance = createHash("sha256").update(stateDir).digest("hex")
  const open = async (live: readonly LiveNetwork[]) => {
    const pool = await NamespacePool.open({
      stateDir,
      range: `100.93.${third}.0/24`,
      size: 0,
      closedNetworks: ["198.51.100.128/25"],
    })
    await pool.recover(live)
    return pool
  }
  const near = await elsewhere(`bt-n${third}`, "203.0.113")
  const far = await elsewhere(`bt-f${third}`, "198.51.100")
  for (const { netns } of [near, far]) servers.push(await echoes(netns, ECHO_PORT))
  const bench: NetworkBench = {
    pool: await open([]),
    near,
    far,
    async place(tenantId, limits = OPEN) {
      const run = anId("run")
      const network = await bench.pool.take(run, tenantId, limits, [])
      taken.add(run)
      return { ...network, run, tenantId, limits, at: network.address ?? "" }
    },
    async echoes(netns) {
      servers.push(await echoes(netns, ECHO_PORT))
    },
    async hold({ run, tenantId, limits, at, netnsPath }) {
      const holder = spawn("nsenter", [`--net=${netnsPath}`, "sleep", "60"], { stdio: "ignore" })
      holders.push(holder)
      const pid = holder.pid ?? 0
      const inside = `/proc/${pid}/ns/net`
      await waitFor("the process to be inside", () => readlinkSync(inside) === readlinkSync(netnsPath))
      return { inside, live: { runId: run, tenantId, network: limits, names: [], address: at, pid } }
    },
    async restart(live) {
      const kept = new Set(live.map(({ runId }) => runId))
      await bench.pool.close()
      for (const run of taken) if (!kept.has(run)) taken.delete(run)
      bench.pool = await open(live)
    },
    async close() {
      for (const server of servers) await server.stop()
      for (const holder of holders) holder.kill("SIGKILL")
      for (const run of taken) await bench.pool.release(run)
      await waitFor("the links to go", () => !readdirSync("/sys/class/net").some((link) => link.startsWith(linkPrefix(instance))))
      await bench.pool.close()
      await near.close()
      await far.close()
      const tables = execFileSync("nft", ["list", "tables"], { encoding: "utf8" })
      if (tables.includes(tableName(instance))) throw new Error("the packet filter's table is still there")
    },
  }
  return bench
}
