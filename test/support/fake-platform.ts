/**
 * The platform as a bridge sees it: enrolment, and a NodeObject behind a WebSocket. It keeps assignments and what was
 * reported, and refuses like the real one: an assertion that does not verify is 401, a message it cannot read is 4400.
 */
import { createServer } from "node:http"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import type { Duplex } from "node:stream"
import { importJWK, jwtVerify } from "jose"
import { WebSocketServer } from "ws"
import type { WebSocket } from "ws"
import type { NodeId, RunId } from "../../schema/ids.ts"
import { EnrollRequest, NODE_ASSERTION_TYP } from "../../schema/node.ts"
import type { NodeFacts, NodePublicKey } from "../../schema/node.ts"
import {
  CLOSE,
  decodeStreamChunk,
  HEARTBEAT_REQUEST,
  HEARTBEAT_RESPONSE,
  NodeMessage,
  PROTOCOL_VERSION,
  SUBPROTOCOL,
} from "../../schema/protocol.ts"
import type { Assignment, Command, LogOptions, Notice, Observation, PlatformMessage, Reason } from "../../schema/protocol.ts"
import { supersedes } from "../../schema/lifecycle.ts"
import { anId } from "./assignments.ts"

type Hello = NodeMessage & { type: "hello" }
type CommandResult = NodeMessage & { type: "command_result" }

export interface FakeStream {
  readonly number: number
  text: string
  frames: number[]
  end: { error: Reason | null } | null
}

export class FakePlatform {
  readonly nodeId: NodeId = anId("nod")
  readonly joinToken = "join-me"
  readonly assignments = new Map<RunId, Assignment>()
  readonly observed = new Map<RunId, Observation>()
  readonly history: Observation[] = []
  readonly gone = new Set<RunId>()
  readonly hellos: Hello[] = []
  readonly notices: Notice[] = []
  /** Of the hello, or newer. */
  facts: NodeFacts | null = null
  readonly conditions: (NodeMessage & { type: "condition" })[] = []
  readonly closes: number[] = []
  readonly streams = new Map<number, FakeStream>()
  reports = 0
  acking = true
  answering = true
  /** False: nobody gets as far as a session. */
  reachable = true
  timing = { heartbeat_seconds: 1, lease_seconds: 45, lease_margin_seconds: 15 }
  /** Assignments in one message of the complete set. */
  partSize = 200
  publicKey: NodePublicKey | null = null
  enrolStatus = 200
  /** Enrolments that were answered with `enrolStatus`. */
  refusals = 0
  #version = 0
  #socket: WebSocket | null = null
  #commands = new Map<number, (result: CommandResult) => void>()
  #next = 1
  readonly #server: Server
  readonly #sockets: WebSocketServer

  private constructor() {
    this.#server = createServer((request, response) => void this.#http(request, response))
    this.#sockets = new WebSocketServer({
      noServer: true,
      handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    })
    this.#server.on("upgrade", (request, socket, head) => {
      void this.#upgrade(request, socket, head)
    })
  }

  static async start(port = 0): Promise<FakePlatform> {
    const platform = new FakePlatform()
    await new Promise<void>((resolve) => platform.#server.listen(port, "127.0.0.1", resolve))
    return platform
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }
  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }
  get connected(): boolean {
    return this.#socket !== null
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.drop()
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  assign(...assignments: Assignment[]): void {
    for (const assignment of assignments) this.assignments.set(assignment.run_id, assignment)
    this.#increment(assignments, [])
  }
  change(runId: RunId, change: Partial<Assignment>): void {
    const known = this.assignments.get(runId)
    if (known) this.assign({ ...known, ...change })
  }
  unassign(runId: RunId): void {
    this.assignments.delete(runId)
    this.#increment([], [runId])
  }
  /** Assigned while nobody listens: only the next complete set tells. */
  assignSilently(assignment: Assignment): void {
    this.assignments.set(assignment.run_id, assignment)
    this.#version += 1
  }
  /** Ends the session without a word, as a broken network does. */
  drop(): void {
    this.#socket?.terminate()
    this.#socket = null
  }
  close(code: number): void {
    this.#socket?.close(code)
  }
  sendText(text: string): void {
    this.#socket?.send(text)
  }
  command(runId: RunId, command: Command): Promise<CommandResult> {
    const id = this.#next++
    this.#say({ type: "command", id, run_id: runId, command })
    return new Promise((resolve) => this.#commands.set(id, resolve))
  }
  openLogs(runIds: RunId[], logs: Partial<LogOptions>, creditBytes: number): FakeStream {
    const stream: FakeStream = { number: this.#next++, text: "", frames: [], end: null }
    this.streams.set(stream.number, stream)
    const options: LogOptions = { follow: false, since_ms: null, tail: null, streams: ["stdout", "stderr"], after: null, ...logs }
    this.#say({ type: "stream_open", stream: stream.number, run_ids: runIds, logs: options, credit_bytes: creditBytes })
    return stream
  }
  credit(stream: FakeStream, bytes: number): void {
    this.#say({ type: "stream_credit", stream: stream.number, bytes })
  }
  closeStream(stream: FakeStream): void {
    this.#say({ type: "stream_close", stream: stream.number })
  }

  #say(message: PlatformMessage): void {
    this.#socket?.send(JSON.stringify(message))
  }

  #increment(upsert: Assignment[], remove: RunId[]): void {
    const applies_to = this.#version++
    this.#say({ type: "increment", applies_to, results_in: this.#version, upsert, remove })
  }

  async #mayConnect(request: IncomingMessage): Promise<boolean> {
    const token = request.headers.authorization?.replace(/^Bearer /, "")
    if (!token || !this.publicKey) return request.url === "/v1/nodes/connect" && this.publicKey === null
    try {
      const { protectedHeader, payload } = await jwtVerify(token, await importJWK(this.publicKey, "EdDSA"), {
        audience: this.url,
        typ: NODE_ASSERTION_TYP,
        issuer: this.nodeId,
        subject: this.nodeId,
      })
      return protectedHeader.kid === this.nodeId && payload.jti !== undefined
    } catch {
      return false
    }
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    if (!this.reachable) socket.destroy()
    else if (await this.#mayConnect(request)) this.#sockets.handleUpgrade(request, socket, head, (ws) => this.#connected(ws))
    else socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
  }

  #connected(ws: WebSocket): void {
    this.#socket = ws
    ws.on("message", (data: Buffer, isBinary: boolean) => {
      if (this.#socket !== ws) return
      if (isBinary) return this.#chunk(data)
      const text = data.toString("utf8")
      if (text === HEARTBEAT_REQUEST) return this.answering ? ws.send(HEARTBEAT_RESPONSE) : undefined
      const message = NodeMessage.safeParse(JSON.parse(text))
      if (!message.success) return ws.close(CLOSE.protocol_error)
      this.#received(message.data)
    })
    ws.on("close", (code) => {
      this.closes.push(code)
      if (this.#socket === ws) this.#socket = null
    })
  }

  #received(message: NodeMessage): void {
    switch (message.type) {
      case "hello":
        this.hellos.push(message)
        this.facts = message.facts
        this.#say({ type: "welcome", protocol: PROTOCOL_VERSION, node_id: this.nodeId, ...this.timing })
        return this.#complete()
      case "report":
        this.reports += 1
        for (const observation of message.observations) this.#observe(observation)
        for (const runId of message.gone) {
          this.gone.add(runId)
          this.assignments.delete(runId)
        }
        this.notices.push(...message.notices)
        if (this.acking) this.#say({ type: "report_ack", seq: message.seq })
        return
      case "facts":
        this.facts = message.facts
        return
      case "condition":
        this.conditions.push(message)
        return
      case "command_result":
        this.#commands.get(message.id)?.(message)
        return
      case "stream_end": {
        const stream = this.streams.get(message.stream)
        if (stream) stream.end = { error: message.error }
        return
      }
    }
  }

  #complete(): void {
    const all = [...this.assignments.values()]
    do {
      const assignments = all.splice(0, this.partSize)
      this.#say({ type: "complete", results_in: this.#version, assignments, more: all.length > 0 })
    } while (all.length > 0)
  }

  #observe(observation: Observation): void {
    this.history.push(observation)
    const known = this.observed.get(observation.run_id)
    if (!known || supersedes(observation, known)) this.observed.set(observation.run_id, observation)
  }

  #chunk(data: Buffer): void {
    const chunk = decodeStreamChunk(data)
    const stream = chunk && this.streams.get(chunk.stream)
    if (!chunk || !stream) return
    stream.text += Buffer.from(chunk.bytes).toString("utf8")
    stream.frames.push(chunk.bytes.length)
  }

  async #http(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = EnrollRequest.safeParse(JSON.parse(Buffer.concat(chunks).toString("utf8")))
    const answer = (status: number, value: unknown) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value))
    }
    if (this.enrolStatus !== 200) {
      this.refusals += 1
      return answer(this.enrolStatus, { title: "Not now" })
    }
    if (request.url !== "/v1/nodes/enroll" || !body.success) return answer(400, { title: "The request cannot be read" })
    const again = this.publicKey?.x === body.data.public_key.x
    if (body.data.join_token !== this.joinToken || (this.publicKey && !again)) {
      return answer(401, { detail: "The join token is not valid, or was used before." })
    }
    this.publicKey = body.data.public_key
    answer(200, { node_id: this.nodeId, cell_id: anId("cel"), issuer: this.url })
  }
}
