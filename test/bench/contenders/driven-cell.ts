/** The real CellObject in workerd, driven over HTTP without the rest of the control plane: what one cell can do by itself. */
import { randomBytes } from "node:crypto"
import { on, once } from "node:events"
import { mkdir, readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { WebSocket } from "ws"
import { z } from "zod"
import { type Client, clientOf } from "../../../bin/client.ts"
import { freePort, startControlPlane } from "../../../bin/control-plane.ts"
import { makeSecretsKey, makeSigningKey } from "../../../bin/keys.ts"
import type { Ask, CellRpc, Placement } from "../../../durable/shared/rpc.ts"
import { type CellId, formatId, ID_RANDOM_BYTES, type IdOf, type IdPrefix, type NodeId, type RunId } from "../../../schema/ids.ts"
import type { BenchContext } from "../harness/bench.ts"
import type { CellCall, DoorCall, Trial, TrialResult } from "../workerd/calls.ts"
import { processesUnder } from "./kernel-memory.ts"

const DOOR = join(import.meta.dirname, "../workerd/cell.ts")
/** Nodes registered by one request. */
const REGISTRATIONS = 250

export type NodeOffer = Parameters<CellRpc["registerNode"]>[1]

export const newId = <P extends IdPrefix>(prefix: P): IdOf<P> => formatId(prefix, Date.now(), randomBytes(ID_RANDOM_BYTES))
export const newRuns = (count: number): RunId[] => Array.from({ length: count }, () => newId("run"))

export interface DrivenCell {
  readonly id: CellId
  register(nodes: readonly NodeOffer[]): Promise<void>
  forget(node: NodeId): Promise<void>
  setReady(node: NodeId, ready: boolean): Promise<void>
  place(asks: readonly Ask[]): Promise<Placement[]>
  release(runs: readonly RunId[]): Promise<void>
  room(): Promise<Awaited<ReturnType<CellRpc["room"]>>>
}

export interface DrivenCells {
  newCell(): DrivenCell
  tryOut(trial: Trial): Promise<TrialResult>
  /** Of all cells' databases, their journals included. */
  bytesOnDisk(): Promise<number>
  /** What lives in the isolate of all objects, once what is garbage has been collected. */
  heapMib(): Promise<number>
  /** Of workerd's process, what it shares divided among those who share it. */
  memoryMib(): Promise<number>
}

export async function startDrivenCells(
  { signal }: Pick<BenchContext, "signal">,
  folder: string,
  cleanup: AsyncDisposableStack,
): Promise<DrivenCells> {
  signal.throwIfAborted()
  await mkdir(folder, { recursive: true })
  const state = join(folder, "state")
  const [signingKey, secretsKey, issuerFile] = [await makeSigningKey(), makeSecretsKey(), join(folder, "issuer")]
  const inspectorPort = await freePort()
  const platform = await startControlPlane({ state, port: 0, signingKey, secretsKey, issuerFile, main: DOOR, inspectorPort })
  let stopped: Promise<void> | undefined
  const stop = () => (stopped ??= platform.stop())
  const cutOff = () => void stop().catch(() => {}) // whoever awaits an answer is told
  signal.addEventListener("abort", cutOff)
  cleanup.defer(async () => {
    signal.removeEventListener("abort", cutOff)
    await stop()
  })
  const client = clientOf(platform.url, "none")
  const databases = join(state, "do", "berth-CellObject")
  return {
    newCell: () => cellBehind(client, newId("cel")),
    tryOut: (trial) => client.post<TrialResult>("/", { kind: "trial", trial } satisfies DoorCall),
    bytesOnDisk: async () => {
      const files = await readdir(databases)
      const sizes = await Promise.all(files.map(async (file) => (await stat(join(databases, file))).size))
      return sizes.reduce((sum, size) => sum + size, 0)
    },
    heapMib: () => heapMib(inspectorPort),
    memoryMib: async () => (await ownWorkerd()).pssKib / 1024,
  }
}

const Inspected = z.array(z.object({ title: z.string(), webSocketDebuggerUrl: z.string() }))
const HeapUsage = z.object({ id: z.literal(2), result: z.object({ usedSize: z.number() }) })

/** By Chrome's protocol: `HeapProfiler.collectGarbage`, then `Runtime.getHeapUsage`. */
async function heapMib(port: number): Promise<number> {
  const workers = Inspected.parse(await (await fetch(`http://127.0.0.1:${port}/json`)).json())
  const own = workers.find(({ title }) => /core:user:/.test(title))
  if (own === undefined) throw new Error("workerd's inspector does not name the worker")
  const socket = new WebSocket(own.webSocketDebuggerUrl)
  try {
    await once(socket, "open")
    socket.send(JSON.stringify({ id: 1, method: "HeapProfiler.collectGarbage" }))
    socket.send(JSON.stringify({ id: 2, method: "Runtime.getHeapUsage" }))
    for await (const [data] of on(socket, "message")) {
      const told = HeapUsage.safeParse(JSON.parse(String(data)))
      if (told.success) return told.data.result.usedSize / 1024 ** 2
    }
    throw new Error("workerd's inspector ended before it answered")
  } finally {
    socket.terminate()
  }
}

/** The workerd that this process has started. */
export const ownWorkerd = () =>
  processesUnder((commandLine, parent) => parent === process.pid && /\bworkerd serve\b/.test(commandLine))

function cellBehind(client: Client, cell: CellId): DrivenCell {
  const call = <T>(calls: readonly CellCall[]) => client.post<T[]>("/", { kind: "cell", calls } satisfies DoorCall)
  const one = async <T>(made: CellCall): Promise<T> => {
    const [answer] = await call<T>([made])
    return answer as T
  }
  return {
    id: cell,
    register: async (nodes) => {
      for (let i = 0; i < nodes.length; i += REGISTRATIONS) {
        await call(
          nodes.slice(i, i + REGISTRATIONS).flatMap((node): CellCall[] => [
            { cell, method: "registerNode", args: [cell, node] },
            { cell, method: "setNodeReady", args: [node.node_id, true, null] },
          ]),
        )
      }
    },
    forget: (node) => one({ cell, method: "forgetNode", args: [node] }),
    setReady: (node, ready) => one({ cell, method: "setNodeReady", args: [node, ready, null] }),
    place: (asks) => one({ cell, method: "place", args: [cell, [...asks]] }),
    release: (runs) => one({ cell, method: "release", args: [[...runs], []] }),
    room: () => one({ cell, method: "room", args: [] }),
  }
}
