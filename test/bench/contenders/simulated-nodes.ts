/**
 * Nodes that speak the protocol to the real control plane over real sockets and run nothing: each run is said to run as soon as
 * it is assigned. As a bridge does, a node has one report on its way at a time and tells of each run what it knows last.
 */
import { randomUUID } from "node:crypto"
import { exportJWK, generateKeyPair } from "jose"
import { WebSocket } from "ws"
import type { Client } from "../../../bin/client.ts"
import { signAssertion } from "../../../node-bridge/agent/identity.ts"
import { MIB } from "../../../schema/container.ts"
import { FEATURES } from "../../../schema/features.ts"
import type { RunId } from "../../../schema/ids.ts"
import { EnrollAnswer, type NodeFacts } from "../../../schema/node.ts"
import {
  type Assignment, HEARTBEAT_REQUEST, HEARTBEAT_RESPONSE, HEARTBEAT_SECONDS, MAX_OBSERVATIONS_PER_REPORT, type NodeMessage, type Observation,
  type PlatformMessage, PROTOCOL_VERSION, SUBPROTOCOL,
} from "../../../schema/protocol.ts" // prettier-ignore

/** Each enrols with three calls, which the directory stores one after the other. */
const JOINING_AT_ONCE = 16
const CAPACITY = { cpus: 1000, memory_bytes: 4096 * 1024 * MIB, pids: 1e7, runs: 10_000, disk_bytes: 1e15 }

/** Counted over all nodes. */
export interface Tally {
  assigned: number
  /** Runs whose `running` the platform has taken note of. */
  acknowledged: number
  /** Text messages either way, heartbeats and their answers among them. */
  messages: number
  heartbeats: number
}

export interface SimulatedNodes {
  readonly tally: Tally
  close(): Promise<void>
}

export async function joinNodes(url: string, operator: Client, count: number, signal: AbortSignal): Promise<SimulatedNodes> {
  const tally: Tally = { assigned: 0, acknowledged: 0, messages: 0, heartbeats: 0 }
  const nodes: SimulatedNode[] = []
  let next = 0
  const joinSome = async () => {
    while (next < count) {
      signal.throwIfAborted()
      nodes.push(await join(url, operator, next++, tally))
    }
  }
  await Promise.all(Array.from({ length: JOINING_AT_ONCE }, joinSome))
  return { tally, close: async () => void (await Promise.all(nodes.map((node) => node.close()))) }
}

async function join(url: string, operator: Client, index: number, tally: Tally): Promise<SimulatedNode> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true })
  const { x = "", d = "" } = await exportJWK(privateKey)
  const key = { kty: "OKP", crv: "Ed25519", x, d } as const
  const { join_token } = await operator.post<{ join_token: string }>("/v1/admin/join-tokens", { labels: { region: "bench-1" } })
  const hostname = `simulated-${index}`
  const request = { join_token, public_key: { kty: key.kty, crv: key.crv, x }, hostname }
  const enrolled = EnrollAnswer.parse(await operator.post("/v1/nodes/enroll", request))
  const assertion = await signAssertion({ v: 1, key, enrolled }, Date.now(), randomUUID())
  const headers = { authorization: `Bearer ${assertion}` }
  const socket = new WebSocket(`${url.replace("http", "ws")}/v1/nodes/connect`, SUBPROTOCOL, { headers })
  const node = new SimulatedNode(socket, tally)
  await node.greet(factsOf(hostname))
  return node
}

const factsOf = (hostname: string): NodeFacts => ({
  hostname,
  boot_id: hostname,
  architecture: "amd64",
  capacity: CAPACITY,
  labels: {},
  profiles: [{ name: "hardened", runtime: "crun", features: [...FEATURES] }],
  devices: [],
  max_open_files: 1_048_576,
  versions: {},
})

class SimulatedNode {
  readonly #socket: WebSocket
  readonly #tally: Tally
  readonly #revisions = new Map<RunId, number>()
  #unsaid = new Map<RunId, Observation>()
  #gone = new Set<RunId>()
  #onItsWay: { readonly seq: number; readonly running: number } | undefined
  #seq = 0
  #heartbeat: NodeJS.Timeout | undefined
  readonly #complete = Promise.withResolvers<void>()

  constructor(socket: WebSocket, tally: Tally) {
    this.#socket = socket
    this.#tally = tally
    socket.on("message", (data: Buffer, binary) => {
      tally.messages++
      const text = data.toString()
      if (!binary && text !== HEARTBEAT_RESPONSE) this.#hear(JSON.parse(text) as PlatformMessage)
    })
    socket.once("error", (error) => this.#complete.reject(error))
    socket.once("close", (code) => this.#complete.reject(new Error(`a simulated node was closed with ${code}`)))
  }

  /** Resolves when the node has its complete set and may be given runs. */
  async greet(facts: NodeFacts): Promise<void> {
    this.#socket.once("open", () => {
      const condition = { accepting: true, reason: null, conditions: [] }
      this.#send({ type: "hello", protocol: PROTOCOL_VERSION, bridge_version: "0.1.0", facts, condition })
    })
    await this.#complete.promise
    this.#heartbeat = setInterval(() => {
      this.#tally.heartbeats++
      this.#tally.messages++
      this.#socket.send(HEARTBEAT_REQUEST)
    }, HEARTBEAT_SECONDS * 1000)
  }

  async close(): Promise<void> {
    clearInterval(this.#heartbeat)
    if (this.#socket.readyState === WebSocket.CLOSED) return
    const closed = new Promise((resolve) => this.#socket.once("close", resolve))
    this.#socket.terminate()
    await closed
  }

  #hear(message: PlatformMessage): void {
    if (message.type === "complete") {
      for (const assignment of message.assignments) this.#take(assignment)
      if (!message.more) this.#complete.resolve()
    }
    if (message.type === "increment") for (const assignment of message.upsert) this.#take(assignment)
    if (message.type === "report_ack" && message.seq === this.#onItsWay?.seq) {
      this.#tally.acknowledged += this.#onItsWay.running
      this.#onItsWay = undefined
    }
    this.#report()
  }

  #take({ run_id, desired }: Assignment): void {
    const known = this.#revisions.get(run_id)
    if (known === undefined) this.#tally.assigned++
    const revision = (known ?? 0) + 1
    this.#revisions.set(run_id, revision)
    if (desired === "running" && known === undefined) this.#unsaid.set(run_id, observed(run_id, revision, "running"))
    if (desired !== "running") this.#unsaid.set(run_id, observed(run_id, revision, "stopped"))
    if (desired === "removed") this.#gone.add(run_id)
  }

  #report(): void {
    if (this.#onItsWay !== undefined || (this.#unsaid.size === 0 && this.#gone.size === 0)) return
    const observations = [...this.#unsaid.values()].slice(0, MAX_OBSERVATIONS_PER_REPORT)
    for (const { run_id } of observations) this.#unsaid.delete(run_id)
    const gone = [...this.#gone].filter((run) => !this.#unsaid.has(run)).slice(0, MAX_OBSERVATIONS_PER_REPORT)
    for (const run of gone) this.#gone.delete(run)
    this.#onItsWay = { seq: ++this.#seq, running: observations.filter(({ state }) => state === "running").length }
    this.#send({ type: "report", seq: this.#seq, observations, gone, notices: [] })
  }

  #send(message: NodeMessage): void {
    this.#tally.messages++
    this.#socket.send(JSON.stringify(message))
  }
}

function observed(run_id: RunId, revision: number, state: "running" | "stopped"): Observation {
  const at_ms = Date.now()
  const exit = { code: 143, signal: "SIGTERM", oom_killed: false, by: "tenant" as const, log_tail: [] }
  return {
    run_id,
    state,
    revision,
    paused: false,
    at_ms,
    reason: null,
    exit: state === "stopped" ? exit : null,
    image_digest: null,
    started_at_ms: at_ms,
    finished_at_ms: state === "stopped" ? at_ms : null,
    timings: {},
  }
}
