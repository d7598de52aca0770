/**
 * A node that speaks the protocol over a real WebSocket to a real NodeObject, and runs nothing. By itself it brings every
 * assignment to what is desired, as a bridge does; with `manual` it only listens, and the test reports what it likes.
 */
import type { CellId, NodeId, RunId } from "../../schema/ids.ts"
import { isTerminal, type RunState } from "../../schema/lifecycle.ts"
import type { NodeFacts } from "../../schema/node.ts"
import {
  type Assignment, type Condition, decodeStreamChunk, encodeStreamChunk, type NodeMessage, type Notice, type Observation, PlatformMessage,
  PROTOCOL_VERSION, SUBPROTOCOL,
} from "../../schema/protocol.ts" // prettier-ignore
import { CELL_ID_HEADER, NODE_ASSERTION_HEADER, NODE_ID_HEADER } from "../../durable/shared/rpc.ts"
import { anExit, anId, anObservation, someFacts } from "./factories.ts"
import { waitFor } from "./wait-for.ts"

export interface FakeNodeOptions {
  readonly namespace: DurableObjectNamespace
  readonly cellId: CellId
  readonly nodeId?: NodeId
  readonly facts?: Partial<NodeFacts>
  readonly condition?: Condition
  readonly manual?: boolean
  /** Says no hello: the test says it. */
  readonly silent?: boolean
  readonly subprotocol?: string
  /** Connects some other way than straight to the object: through the worker, with an assertion. */
  readonly dial?: (headers: Record<string, string>) => Promise<Response>
  /** How a run that was started ends by itself at once; undefined: it goes on running. */
  readonly endsWith?: (assignment: Assignment) => { state: RunState; code: number } | undefined
}

interface Known {
  state: RunState
  revision: number
  paused: boolean
}

export class FakeNode {
  readonly nodeId: NodeId
  readonly received: PlatformMessage[] = []
  readonly frames: { stream: number; bytes: Uint8Array }[] = []
  readonly assignments = new Map<RunId, Assignment>()
  closed: { code: number; reason: string } | null = null
  version = -1
  readonly #options: FakeNodeOptions
  readonly #known = new Map<RunId, Known>()
  readonly #socket: WebSocket
  #seq = 0

  private constructor(socket: WebSocket, nodeId: NodeId, options: FakeNodeOptions) {
    this.#socket = socket
    this.nodeId = nodeId
    this.#options = options
    socket.addEventListener("message", ({ data }) => this.#received(data))
    socket.addEventListener("close", ({ code, reason }) => {
      this.closed = { code, reason }
    })
    socket.accept()
  }

  /** A response without a socket is thrown as its text. */
  static async connect(options: FakeNodeOptions): Promise<FakeNode> {
    const nodeId = options.nodeId ?? anId("nod")
    const stub = options.namespace.get(options.namespace.idFromName(nodeId))
    const headers = {
      upgrade: "websocket",
      "sec-websocket-protocol": options.subprotocol ?? SUBPROTOCOL,
      [NODE_ID_HEADER]: nodeId,
      [CELL_ID_HEADER]: options.cellId,
      [NODE_ASSERTION_HEADER]: `${crypto.randomUUID()} ${Date.now() + 60_000}`,
    }
    const dial = options.dial ?? (() => stub.fetch("https://node.test/v1/nodes/connect", { headers }))
    const response = await dial(headers)
    if (!response.webSocket) throw new Error(await response.text())
    const node = new FakeNode(response.webSocket, nodeId, options)
    if (!options.silent) {
      node.hello()
      await waitFor("the complete set", () => node.version >= 0)
    }
    return node
  }

  hello(changes: { protocol?: number } = {}): void {
    const condition = this.#options.condition ?? { accepting: true, reason: null, conditions: [] }
    const facts = someFacts(this.#options.facts)
    this.send({ type: "hello", protocol: PROTOCOL_VERSION, bridge_version: "0.1.0", facts, condition, ...changes })
  }

  send(message: NodeMessage): void {
    this.#socket.send(JSON.stringify(message))
  }

  sendText(text: string): void {
    this.#socket.send(text)
  }

  sendBytes(stream: number, bytes: Uint8Array): void {
    this.#socket.send(encodeStreamChunk(stream, bytes))
  }

  report(observations: Observation[], gone: RunId[] = [], notices: Notice[] = []): number {
    const seq = ++this.#seq
    this.send({ type: "report", seq, observations, gone, notices })
    return seq
  }

  async acknowledged(seq: number): Promise<void> {
    await waitFor(`the acknowledgement of report ${seq}`, () =>
      this.received.some((m) => m.type === "report_ack" && m.seq === seq),
    )
  }

  async assigned(run: RunId): Promise<Assignment> {
    return waitFor(`the assignment of ${run}`, () => this.assignments.get(run))
  }

  close(code = 1000): void {
    this.#socket.close(code, "")
  }

  #received(data: string | ArrayBuffer): void {
    if (typeof data !== "string") {
      const chunk = decodeStreamChunk(data)
      if (chunk) this.frames.push(chunk)
      return
    }
    if (data === "pong") return
    const message = PlatformMessage.parse(JSON.parse(data))
    this.received.push(message)
    if (message.type === "complete") {
      for (const assignment of message.assignments) this.#assign(assignment)
      if (!message.more) this.version = message.results_in
    }
    if (message.type === "increment") {
      if (message.applies_to !== this.version) throw new Error(`an increment for ${message.applies_to}, not ${this.version}`)
      this.version = message.results_in
      for (const assignment of message.upsert) this.#assign(assignment)
      for (const run of message.remove) this.assignments.delete(run)
    }
  }

  #assign(assignment: Assignment): void {
    this.assignments.set(assignment.run_id, assignment)
    if (!this.#options.manual) this.#advance(assignment)
  }

  #advance(assignment: Assignment): void {
    const { run_id } = assignment
    const known = this.#known.get(run_id) ?? { state: "placed", revision: 0, paused: false }
    this.#known.set(run_id, known)
    const tell = (changes: Partial<Observation>, gone: RunId[] = []) => {
      known.state = changes.state ?? known.state
      known.paused = changes.paused ?? false
      known.revision++
      this.report([anObservation(run_id, { ...changes, state: known.state, revision: known.revision })], gone)
    }
    const over = isTerminal(known.state)
    if (assignment.desired === "removed") {
      if (over) this.report([], [run_id])
      else tell({ state: "stopped", exit: anExit({ code: 143, signal: "SIGTERM", by: "tenant" }) }, [run_id])
      return
    }
    if (over) return
    if (assignment.desired === "stopped")
      return tell({ state: "stopped", exit: anExit({ code: 143, signal: "SIGTERM", by: "tenant" }) })
    if (known.state !== "running") {
      tell({ state: "accepted" })
      tell({ state: "running", timings: { start: 12 } })
      const end = this.#options.endsWith?.(assignment)
      if (end) tell({ state: end.state, exit: anExit({ code: end.code }) })
    } else if (known.paused !== assignment.paused) tell({ state: "running", paused: assignment.paused })
  }
}
