/**
 * One node: its session, its lease, and the complete set of what it must make true. An idle node costs no SQL write: its
 * heartbeats are answered by the platform without waking this object, and its lease is armed only while it has live runs.
 *
 * The node is not trusted: it may speak of runs that are assigned to it and of no others. Reports go to their tenants one
 * after the other and are acknowledged once stored; if that fails the session is dropped, and the bridge sends them again.
 */
import { DurableObject } from "cloudflare:workers"
import { AppError } from "../../schema/errors.ts"
import type { CellId, RunId, TenantId } from "../../schema/ids.ts"
import migrations from "../../schema/migrations/node/migrations.js"
import {
  type Assignment, CLOSE, type Command, HEARTBEAT_SECONDS, LEASE_MARGIN_SECONDS, LEASE_SECONDS, type LogOptions,
 type NodeMessage, PROTOCOL_VERSION, STREAM_CREDIT_BYTES, SUBPROTOCOL,
} from "../../schema/protocol.ts" // prettier-ignore
import { Alarms } from "../shared/alarms.ts"
import { migrateOnce, openDatabase } from "../shared/database.ts"
import { type Env, type Peers, peersOf, randomNumber, systemClock } from "../shared/ports.ts"
import type { NodeRpc, NodeStatus } from "../shared/rpc.ts"
import { AssignmentSet } from "./assignment-set.ts"
import { CellLink } from "./cell-link.ts"
import { Commands } from "./commands.ts"
import { Lease } from "./lease.ts"
import { readOpening } from "./opening.ts"
import { OperatorCalls } from "./operator.ts"
import { statusOf } from "./readiness.ts"
import { Reports } from "./reports.ts"
import { Allowance, costOf, isFresh, mayReceive } from "./session.ts"
import { close, readMessage, send, Sockets } from "./sockets.ts"
import { NodeStore } from "./store.ts"
import { Streams } from "./streams.ts"
import { TenantLink } from "./tenant-link.ts"

/** When a cell or a tenant did not answer. */
const RETRY_MS = 2_000
/** WebSocket close codes of RFC 6455: the other side should come again. */
const TRY_AGAIN_LATER = 1013

type Hello = NodeMessage & { type: "hello" }
type Report = NodeMessage & { type: "report" }

export class NodeObject extends DurableObject<Env> implements NodeRpc {
  readonly #clock = systemClock
  readonly #store: NodeStore
  readonly #peers: Peers
  readonly #alarms: Alarms
  readonly #sockets: Sockets
  readonly #commands = new Commands(randomNumber())
  readonly #streams: Streams
  readonly #set: AssignmentSet
  readonly #reports: Reports
  readonly #cell: CellLink
  readonly #tenants: TenantLink
  readonly #lease: Lease
  readonly #operator: OperatorCalls
  readonly #allowance = new Allowance()

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    const db = openDatabase(ctx.storage)
    this.#store = new NodeStore(db)
    this.#peers = peersOf(env)
    this.#sockets = new Sockets(ctx)
    this.#streams = new Streams(
      {
        credit: (stream, bytes) => this.#tell({ type: "stream_credit", stream, bytes }),
        closed: (stream) => this.#tell({ type: "stream_close", stream }),
      },
      randomNumber(),
    )
    const [store, clock, sockets] = [this.#store, this.#clock, this.#sockets]
    const soon = () => this.#alarms.atLatest(clock.now() + RETRY_MS)
    this.#lease = new Lease({ store, sockets, clock, alarms: () => this.#alarms, lapsed: () => this.#lapsed() })
    this.#set = new AssignmentSet(store, sockets, (rows) => this.#lease.armFor(rows))
    this.#reports = new Reports(store, this.#set, this.#peers)
    this.#cell = new CellLink(store, this.#peers, soon)
    this.#tenants = new TenantLink(store, this.#set, this.#peers, soon)
    const wakeAt = (atMs: number | null) => this.#alarms.atLatest(atMs)
    const [set, cell, tenants] = [this.#set, this.#cell, this.#tenants]
    this.#operator = new OperatorCalls({ store, set, cell, tenants, clock, wakeAt })
    this.#alarms = new Alarms(ctx.storage, clock, [
      () => store.node()?.lease_until_ms ?? null,
      () => this.#operator.nextLook(),
      () => (store.owesCell() || store.owesTenants() ? clock.now() + RETRY_MS : null),
    ])
    void ctx.blockConcurrencyWhile(async () => {
      await migrateOnce(db, migrations)
      await this.#alarms.load()
      this.#lease.noticeRestart()
      if (store.owesCell()) soon()
    })
  }

  override async fetch(request: Request): Promise<Response> {
    const opening = readOpening(request)
    if (opening instanceof Response) return opening
    const { node_id, cell_id, operator_labels, assertion } = opening
    const used = this.#store.useAssertion(assertion.id, assertion.expires_at_ms, this.#clock.now())
    if (used === "used") return new Response("This assertion began a session before. Sign a new one.", { status: 401 })
    if (used === "too_many") return new Response("This node began too many sessions in the last minute.", { status: 503 })
    this.#store.createNode({ node_id, cell_id, operator_labels })
    const known = this.#store.node()
    if (JSON.stringify(known?.operator_labels) !== JSON.stringify(operator_labels)) this.#store.updateNode({ operator_labels })
    const { 0: client, 1: server } = new WebSocketPair()
    this.#endSession()
    this.#sockets.accept(server)
    if (known?.forgotten) close(server, CLOSE.forgotten, "the operator forgot this node")
    return new Response(null, { status: 101, webSocket: client, headers: { "sec-websocket-protocol": SUBPROTOCOL } })
  }

  override async webSocketMessage(socket: WebSocket, data: string | ArrayBuffer): Promise<void> {
    if (socket !== this.#sockets.current()) return
    this.#lease.heard()
    if (typeof data !== "string") {
      if (!this.#streams.expects(data) && !this.#afford(costOf("frame", data.byteLength))) return this.#endFlood(socket)
      if (!this.#streams.received(data)) close(socket, CLOSE.protocol_error, "a stream frame beyond its credit, or of no stream")
      return
    }
    const read = readMessage(data)
    if (!read.ok) return close(socket, read.code, read.why)
    const { message } = read
    if (!mayReceive(this.#sockets.phase(socket), message.type))
      return close(socket, CLOSE.protocol_error, `${message.type} out of turn`)
    // Reports are held back by their acknowledgements; all else by what a node may say in a second.
    if (message.type === "report" ? this.#reports.full : !this.#afford(costOf(message.type, data.length)))
      return this.#endFlood(socket)
    switch (message.type) {
      case "hello":
        return this.#greet(socket, message)
      case "report":
        return this.#forward(socket, message)
      case "facts":
        this.#store.updateNode({ facts: message.facts, cell_due: true })
        return this.#cell.tell()
      case "condition":
        this.#store.updateNode({ condition: message.condition, cell_due: true })
        return this.#cell.tell()
      case "command_result":
        return this.#commands.answered(message.id, message.error, message.data)
      case "stream_end":
        return this.#streams.ended(message.stream, message.error)
    }
  }

  override async webSocketClose(socket: WebSocket, code: number): Promise<void> {
    // 1005 and 1006 are not codes that may be sent.
    close(socket, code === 1005 || code === 1006 ? 1000 : code, "")
    await this.#disconnected()
  }

  override async webSocketError(): Promise<void> {
    await this.#disconnected()
  }

  async assign(list: Assignment[]): Promise<{ connected: boolean }> {
    const node = this.#store.node()
    // A node is known from its first session on, before any cell can name it. A forgotten one runs nothing any more.
    if (node === undefined || node.forgotten) return { connected: false }
    this.#set.assign(list)
    this.#operator.assigned()
    return { connected: this.#sockets.open() !== undefined && isFresh(this.#clock.now(), this.#lease.lastSeen(node)) }
  }

  async command(runId: RunId, command: Command): Promise<string> {
    const { socket } = this.#reach(runId)
    return this.#commands.call((id) => send(socket, { type: "command", id, run_id: runId, command }))
  }

  async openLogs(runIds: RunId[], logs: LogOptions): Promise<ReadableStream<Uint8Array>> {
    const known = runIds.filter((id) => this.#store.assignment(id) !== undefined)
    const { socket } = this.#reach(known[0])
    const { stream, readable } = this.#streams.open()
    send(socket, { type: "stream_open", stream, run_ids: known, logs, credit_bytes: STREAM_CREDIT_BYTES })
    return readable
  }

  async status(): Promise<NodeStatus> {
    const node = this.#store.node()
    const connected = this.#sockets.open() !== undefined
    if (!node) return statusOf(undefined, connected, null, null)
    return statusOf(node, connected, this.#lease.lastSeen(node), this.#operator.progress(node))
  }

  cordon(reason: string | null): Promise<void> {
    return this.#operator.cordon(reason)
  }
  uncordon(): Promise<void> {
    return this.#operator.uncordon()
  }
  drain(deadlineMs: number): Promise<void> {
    return this.#operator.drain(deadlineMs)
  }
  setExclusive(tenants: TenantId[] | null): Promise<void> {
    return this.#operator.setExclusive(tenants)
  }
  moveTo(cellId: CellId): Promise<void> {
    return this.#operator.moveTo(cellId)
  }

  async forget(): Promise<void> {
    const node = this.#store.node()
    if (node === undefined) return
    const last_seen_ms = this.#lease.lastSeen(node)
    this.#store.updateNode({ forgotten: true, connected: false, last_seen_ms, lease_until_ms: null, cell_due: true })
    this.#tenants.forgotten()
    this.#endSession()
    this.#sockets.closeAll(CLOSE.forgotten, "the operator forgot this node")
    this.#alarms.atLatest(this.#clock.now() + RETRY_MS)
    await this.#cell.tell()
    await this.#tenants.tell()
  }

  override async alarm(): Promise<void> {
    await this.#alarms.fire(async () => {
      if (this.#store.node() === undefined) return
      this.#lease.check()
      this.#operator.look()
      await this.#cell.tell()
      await this.#tenants.tell()
    })
  }

  /* Session. */

  async #greet(socket: WebSocket, { facts, condition }: Hello): Promise<void> {
    this.#sockets.moveTo(socket, "greeting", 0)
    this.#store.updateNode({ facts, condition, connected: true, last_seen_ms: this.#clock.now(), cell_due: true })
    this.#lease.resume()
    this.#tenants.returned()
    await this.#cell.tell()
    const node = this.#store.node()
    if (node === undefined || socket !== this.#sockets.current()) return
    send(socket, {
      type: "welcome",
      protocol: PROTOCOL_VERSION,
      node_id: node.node_id,
      heartbeat_seconds: HEARTBEAT_SECONDS,
      lease_seconds: LEASE_SECONDS,
      lease_margin_seconds: LEASE_MARGIN_SECONDS,
    })
    this.#set.sendComplete(socket)
    await this.#tenants.tell()
  }

  #afford(cost: number): boolean {
    return this.#allowance.take(cost, this.#clock.now())
  }

  #endFlood(socket: WebSocket): void {
    close(socket, CLOSE.protocol_error, "more than a node may say at once")
  }

  async #disconnected(): Promise<void> {
    const node = this.#store.node()
    if (this.#sockets.current() !== undefined || !node?.connected) return
    this.#endSession()
    this.#store.updateNode({ connected: false, last_seen_ms: this.#lease.lastSeen(node), cell_due: true })
    await this.#cell.tell()
  }

  /** What lived in the session's memory goes with it; callers are told and may ask again. */
  #endSession(): void {
    this.#commands.breakAll()
    this.#streams.breakAll()
  }

  /** Runs that must be destroyed stay in the set, so that a node that comes back does so. */
  #lapsed(): void {
    this.#tenants.lapsed()
    this.#endSession()
    this.#sockets.closeAll(CLOSE.resync, "no heartbeat")
  }

  #reach(runId: RunId | undefined): { socket: WebSocket } {
    if (runId === undefined || !this.#store.assignment(runId))
      throw new AppError("not_found", "The node no longer keeps this run.")
    const open = this.#sockets.open()
    if (!open) throw new AppError("node_unreachable", "The container's node is not connected now.")
    return open
  }

  #tell(message: Parameters<typeof send>[1]): void {
    const open = this.#sockets.open()
    if (open) send(open.socket, message)
  }

  async #forward(socket: WebSocket, report: Report): Promise<void> {
    try {
      // A device that was said to have failed must not be given away for the end of the run that had it.
      await this.#cell.told()
      const node = this.#store.node()
      if (node) await this.#reports.forward(node.node_id, report)
      send(socket, { type: "report_ack", seq: report.seq })
    } catch (error) {
      console.error("a report could not be stored; the session is dropped, so that it is sent again", error)
      close(socket, TRY_AGAIN_LATER, "the report could not be stored now")
    }
  }
}
