/** A control plane and several hosts on one machine, each host with a network, a mount table, a state and a bridge of its own. */
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

export interface OwnHost {
  readonly name: string
  readonly nodeId: NodeId
  readonly network: HostNamespace
  readonly bridge: BridgeProcess
  /** Holds a folder for each run of which anything is left, as a path that we can read. */
  readonly runFolder: string
}

export interface SeveralHosts {
  readonly url: string
  readonly operator: Client
  readonly images: string
  readonly hosts: readonly OwnHost[]
  /** Drains all hosts and ends everything. */
  stop(): Promise<void>
}

export interface SeveralHostsOptions {
  readonly folder: string
  readonly count: number
  readonly bridgeArgs?: readonly string[]
  /** Hosts by index whose state lies on a file system of so many bytes. */
  readonly small?: Readonly<Record<number, number>>
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
    const operator = clientOf(url, await signOperatorToken(signingKey, issuer, "operator", TOKEN_SECONDS))
    const hosts: OwnHost[] = []
    for (let index = 0; index < count; index++) {
      const name = `host-${index}`
      const own = join(folder, name)
      const state = join(own, "state")
      await mkdir(state, { recursive: true, mode: 0o700 })
      const bytes = options.small?.[index]
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
        extraArgs: ["--name", name, "--profiles", "hardened", ...(options.bridgeArgs ?? [])],
        onLog: (line) => onLog?.(name, line),
      })
      bridges.push(bridge)
      await bridge.ready
      await rm(joinTokenFile)
      const { items } = await operator.get<{ items: { id: NodeId; hostname: string }[] }>("/v1/admin/nodes")
      const nodeId = items.find(({ hostname }) => hostname === name)?.id
      if (nodeId === undefined) throw new Error(`${name} is not among the nodes`)
      hosts.push({ name, nodeId, network, bridge, runFolder: join(`/proc/${network.pid}/root`, hostPaths(state).runsDir) })
    }
    return { url, operator, images: paths.images, hosts, stop: () => stop("drain") }
  } catch (error) {
    await stop("leave").catch(() => {})
    throw error
  }
}
