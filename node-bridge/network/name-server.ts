/**
 * The name server of this node's containers. It listens on all of the host's addresses, at a port that the packet filter lets
 * nobody but containers through to, and through which it leads all that they ask of the host. Who asks is known by address,
 * which the filter vouches for; an address that is no container's is not answered.
 */
import { createSocket } from "node:dgram"
import type { RemoteInfo, Socket as Datagrams } from "node:dgram"
import { createServer } from "node:net"
import type { Server as Connections, Socket } from "node:net"
import type { TenantId } from "../../schema/ids.ts"
import { DnsBudget } from "./dns-budget.ts"
import * as message from "./dns-message.ts"
import type { Query } from "./dns-message.ts"
import { decide, leadsInside } from "./dns-policy.ts"
import { askByTcp, askByUdp, framed, parseServer } from "./dns-upstream.ts"
import type { Span } from "./egress.ts"
import type { Resident, Residents } from "./residents.ts"

/** Two servers are tried, and the client hears within its own five seconds (resolv.conf(5)) that neither answered. */
const UPSTREAM_TIMEOUT_MS = 2_000
const UPSTREAMS_TRIED = 2
/** Of one tenant, and of all: a connection costs a descriptor. */
const MAX_CONNECTIONS_OF_TENANT = 16
const MAX_CONNECTIONS = 256
const CONNECTION_IDLE_MS = 10_000
const PRUNE_EVERY_MS = 60_000
/** Below the ports that the kernel gives out by itself (32768 on), so that none of the host's connections has it. */
const FIRST_PORT = 20_000
const PORTS = 8_000
/** Neighbouring ports that are tried when one is taken. */
const PORT_TRIES = 50

export interface NameServerOptions {
  readonly residents: Residents
  /** What no container may reach, and so no name may lead to. */
  readonly closed: readonly Span[]
  /** The host's name servers now. */
  upstreams(): readonly string[]
  /** Any number: where the search for a free port begins. The same number leads to the same port after a restart. */
  readonly portSeed: number
}

export class NameServer {
  readonly #options: NameServerOptions
  readonly #budget = new DnsBudget()
  readonly #datagrams: Datagrams
  readonly #listener: Connections
  readonly #connections = new Map<Socket, TenantId>()
  readonly #pruning: NodeJS.Timeout
  #closed = false
  readonly port: number

  private constructor(options: NameServerOptions, port: number, datagrams: Datagrams, listener: Connections) {
    this.#options = options
    this.port = port
    this.#datagrams = datagrams
    this.#listener = listener
    // Whatever one packet does to us, it ends nothing but its own answer.
    datagrams.on("message", (packet, from) => void this.#byUdp(packet, from).catch(() => {}))
    // A client's refusal of an earlier answer may come back as an error of the socket.
    datagrams.on("error", () => {})
    // A connection that could not be taken in, when no descriptor is left, say.
    listener.on("error", () => {})
    listener.on("connection", (socket) => this.#connected(socket))
    this.#pruning = setInterval(() => this.#budget.prune(performance.now()), PRUNE_EVERY_MS)
    this.#pruning.unref()
    datagrams.unref()
    listener.unref()
  }

  static async open(options: NameServerOptions): Promise<NameServer> {
    for (let tries = 0; ; tries++) {
      const port = FIRST_PORT + ((options.portSeed + tries) % PORTS)
      try {
        // oxlint-disable-next-line no-await-in-loop -- one port after the other
        return new NameServer(options, port, ...(await bind(port)))
      } catch (error) {
        const taken = error instanceof Error && "code" in error && error.code === "EADDRINUSE"
        if (!taken || tries >= PORT_TRIES) throw error
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#pruning)
    for (const socket of this.#connections.keys()) socket.destroy()
    await Promise.all([
      new Promise<void>((resolve) => void this.#datagrams.close(() => resolve())),
      new Promise<void>((resolve) => void this.#listener.close(() => resolve())),
    ])
  }

  async #byUdp(packet: Buffer, { address, port }: RemoteInfo): Promise<void> {
    const answer = await this.#answer(packet, address, "udp")
    if (answer !== null && !this.#closed) this.#datagrams.send(answer, port, address, () => {})
  }

  #connected(socket: Socket): void {
    const resident = this.#options.residents.at(socket.remoteAddress ?? "")
    const own = [...this.#connections.values()].filter((tenantId) => tenantId === resident?.tenantId).length
    if (resident === undefined || own >= MAX_CONNECTIONS_OF_TENANT || this.#connections.size >= MAX_CONNECTIONS) {
      return void socket.destroy()
    }
    this.#connections.set(socket, resident.tenantId)
    socket.on("close", () => this.#connections.delete(socket))
    socket.on("error", () => socket.destroy())
    socket.setTimeout(CONNECTION_IDLE_MS, () => socket.destroy())
    void this.#byTcp(socket, resident.address).catch(() => socket.destroy())
  }

  /** One question after the other: while one is answered no more is read. */
  async #byTcp(socket: Socket, address: string): Promise<void> {
    let received = Buffer.alloc(0)
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      received = Buffer.concat([received, chunk])
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE()) {
        const packet = received.subarray(2, 2 + received.readUInt16BE())
        received = received.subarray(2 + packet.length)
        const answer = await this.#answer(packet, address, "tcp")
        if (answer === null) return void socket.destroy()
        if (!socket.write(framed(answer))) await new Promise((resolve) => socket.once("drain", resolve).once("close", resolve))
      }
    }
  }

  /** Null for no answer at all: to strangers, to what is no question, and beyond a tenant's rate. */
  async #answer(packet: Buffer, address: string, by: "udp" | "tcp"): Promise<Buffer | null> {
    const { residents, closed } = this.#options
    const resident = residents.at(address)
    if (resident === undefined || !this.#budget.ask(resident.tenantId, performance.now())) return null
    const query = message.readQuery(packet)
    if (query === null) return null
    if (query === "malformed") return message.formatError(packet)
    const asked = { by: resident, closed, addressOf: (id: TenantId, name: string) => residents.addressOf(id, name) }
    const decision = decide(query, asked)
    const full =
      decision.kind === "answer"
        ? message.answer(query, decision.rcode, decision.records)
        : await this.#forward(query, resident, by)
    return by === "udp" ? message.fitted(query, full) : full
  }

  async #forward(query: Query, { tenantId }: Resident, by: "udp" | "tcp"): Promise<Buffer> {
    if (!this.#budget.begin(tenantId, performance.now())) return message.answer(query, message.RCODE.SERVFAIL)
    try {
      const ask = by === "udp" ? askByUdp : askByTcp
      for (const server of this.#options.upstreams().slice(0, UPSTREAMS_TRIED)) {
        try {
          // oxlint-disable-next-line no-await-in-loop -- the second is for when the first does not answer
          const reply = await ask(query, parseServer(server), UPSTREAM_TIMEOUT_MS)
          if (leadsInside(reply.records, this.#options.closed)) return message.answer(query, message.RCODE.REFUSED)
          return message.relayed(query, reply)
        } catch {
          // It is down or slow: the next.
        }
      }
      return message.answer(query, message.RCODE.SERVFAIL)
    } finally {
      this.#budget.done(tenantId)
    }
  }
}

/** Both protocols at one port, of IPv4: containers have no other. */
async function bind(port: number): Promise<[Datagrams, Connections]> {
  const datagrams = createSocket("udp4")
  await settled(datagrams, "listening", () => datagrams.bind(port))
  const listener = createServer()
  try {
    await settled(listener, "listening", () => listener.listen(port, "0.0.0.0"))
    return [datagrams, listener]
  } catch (error) {
    datagrams.close()
    throw error
  }
}

function settled(emitter: NodeJS.EventEmitter, event: string, begin: () => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  emitter.once(event, () => {
    emitter.off("error", reject)
    resolve()
  })
  emitter.once("error", reject)
  begin()
  return promise
}
