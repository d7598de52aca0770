/** A control plane and several hosts on one machine, each host with a network, a mount table, a state and a bridge of its own. */
import { readdirSync, readFileSync } from "node:fs"
import { mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { type BridgeProcess, startBridge } from "../../bin/bridge-process.ts"
import { type Client, clientOf } from "../../bin/client.ts"
import { type ControlPlane, startControlPlane } from "../../bin/control-plane.ts"
import { makeSecretsKey, signingKeyIn, signOperatorToken } from "../../bin/keys.ts"
import { layoutOf } from "../../bin/platform.ts"
import type { NodeId } from "../../schema/ids.ts"
import { hostPaths } from "../../node-bridge/runtime/paths.ts"
import { type HostNamespace, openHost } from "./host-namespaces.ts"

const TOKEN_SECONDS = 3600
const CLOCK = new URL("./skewed-clock.ts", import.meta.url).href

export interface OwnHost {
  readonly name: string
  readonly nodeId: NodeId
  readonly network: HostNamespace
  readonly bridge: BridgeProcess
  /** The bridge's state folder, as a path that we can read. */
  readonly folder: string
  /** In it, a folder for each run of which anything is left. */
  readonly runFolder: string
  /** What of it is in memory. */
  readonly runtimeDir: string
}

export interface SeveralHosts {
  readonly url: string
  readonly operator: Client
  readonly operatorToken: string
  readonly images: string
  readonly hosts: readonly OwnHost[]
  /** The control plane's process; another takes its place when it dies. */
  workerd(): number | undefined
  /** Drains all hosts and ends everything. */
  stop(): Promise<void>
}

export interface SeveralHostsOptions {
  readonly folder: string
  readonly count: number
  readonly bridgeArgs?: readonly string[]
  /** Hosts by index whose state lies on a file system of so many bytes. */
  readonly small?: Readonly<Record<number, number>>
  /** Hosts by index whose bridge has a clock of its own. */
  readonly skewed?: Readonly<Record<number, { readonly aheadMs: number; readonly rate: number }>>
  readonly onLog?: (from: string, line: string) => void
}

export async function openSeveralHosts(options: SeveralHostsOptions): Promise<SeveralHosts> {
  const { folder, count, onLog } = options
  const paths = layoutOf(folder)
  const signingKey = await signingKeyIn(paths.signingKey)
  const networks: HostNamespace[] = []
  const bridges: BridgeProcess[] = []
  let controlPlane: ControlPlane | undefined
  const stop = async (how: "drain" | "leave") => {
    // Whatever a test that failed has left them in.
    for (const network of networks) network.heal()
    for (const { pid } of bridges) if (pid !== undefined) process.kill(pid, "SIGCONT")
    await Promise.all(bridges.map((bridge) => bridge.stop(how)))
    await controlPlane?.stop()
    await Promise.all(networks.map((network) => network.close()))
  }
  try {
    controlPlane = await startControlPlane({
      state: paths.controlPlane,
      port: 0,
      signingKey,
      secretsKey: makeSecretsKey(),
      issuerFile: paths.issuer,
      onLog: (line) => onLog?.("control plane", line),
    })
    const { url, issuer } = controlPlane
    const operatorToken = await signOperatorToken(signingKey, issuer, "operator", TOKEN_SECONDS)
    const operator = clientOf(url, operatorToken)
    const open = async (index: number): Promise<OwnHost> => {
      const name = `host-${index}`
      const own = join(folder, name)
      const state = join(own, "state")
      await mkdir(state, { recursive: true, mode: 0o700 })
      const bytes = options.small?.[index]
      const skew = options.skewed?.[index]
      const network = await openHost({
        folder: own,
        index,
        port: Number(new URL(url).port),
        ...(bytes !== undefined && { small: { folder: state, bytes } }),
      })
      networks.push(network)
      const joinTokenFile = join(own, "join-token")
      const { join_token } = await operator.post<{ join_token: string }>("/v1/admin/join-tokens", { labels: { host: name } })
      await writeFile(joinTokenFile, join_token, { mode: 0o600 })
      const bridge = startBridge({
        state,
        url,
        images: paths.images,
        runtime: "crun",
        joinTokenFile,
        on: network.on,
        extraArgs: ["--name", name, "--profiles", "hardened", "--drain-timeout", "1", ...(options.bridgeArgs ?? [])],
        ...(skew && {
          env: { NODE_OPTIONS: `--import=${CLOCK}`, CLOCK_AHEAD_MS: String(skew.aheadMs), CLOCK_RATE: String(skew.rate) },
        }),
        onLog: (line) => onLog?.(name, line),
      })
      bridges.push(bridge)
      await bridge.ready
      await rm(joinTokenFile)
      const { items } = await operator.get<{ items: { id: NodeId; hostname: string }[] }>("/v1/admin/nodes")
      const nodeId = items.find(({ hostname }) => hostname === name)?.id
      if (nodeId === undefined) throw new Error(`${name} is not among the nodes`)
      const seen = join(`/proc/${network.pid}/root`, state)
      return {
        name,
        nodeId,
        network,
        bridge,
        folder: seen,
        runFolder: hostPaths(seen).runsDir,
        runtimeDir: hostPaths(state).runtimeDir,
      }
    }
    const opened = await Promise.allSettled(Array.from({ length: count }, (_, index) => open(index)))
    const hosts = opened.map((each) => {
      if (each.status === "rejected") throw each.reason
      return each.value
    })
    return { url, operator, operatorToken, images: paths.images, hosts, workerd, stop: () => stop("drain") }
  } catch (error) {
    await stop("leave").catch(() => {})
    throw error
  }
}

/** Among our children. */
const workerd = (): number | undefined =>
  readdirSync("/proc/self/task")
    .flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, "latin1").trim().split(" ").filter(Boolean))
    .map(Number)
    .find(
      (pid) =>
        readFileSync(`/proc/${pid}/comm`, "latin1") === "workerd\n" && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1")),
    )
