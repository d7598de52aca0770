/**
 * Asks the host's name servers. A stranger who wants to answer in their place must guess a port of the kernel's choosing and
 * a number of ours, and come from the server's address: each question has a connected socket of its own.
 */
import { randomInt } from "node:crypto"
import { createSocket } from "node:dgram"
import { Socket, isIPv6 } from "node:net"
import type { Query, Reply } from "./dns-message.ts"
import { forwarded, readReply } from "./dns-message.ts"

const DNS_PORT = 53
const MAX_ID = 0x1_0000

export interface Server {
  readonly address: string
  readonly port: number
}

/** `1.2.3.4`, or a test's `1.2.3.4#5353`. */
export function parseServer(text: string): Server {
  const [address = "", port] = text.split("#")
  return { address, port: port === undefined ? DNS_PORT : Number(port) }
}

/** Rejects when the server does not answer in time, or cannot be asked. Packets that are no answer to this are passed over. */
export function askByUdp(query: Query, { address, port }: Server, timeoutMs: number): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const id = randomInt(MAX_ID)
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4")
  const timer = setTimeout(() => reject(new Error(`no answer from ${address}`)), timeoutMs)
  socket.on("error", reject)
  socket.on("message", (packet) => {
    const reply = readReply(packet, query, id)
    if (reply !== null) resolve(reply)
  })
  socket.on("connect", () => socket.send(forwarded(query, id)))
  socket.connect(port, address)
  return promise.finally(() => {
    clearTimeout(timer)
    socket.close()
  })
}

/** As `askByUdp`, for answers of any length. */
export function askByTcp(query: Query, { address, port }: Server, timeoutMs: number): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const id = randomInt(MAX_ID)
  const socket = new Socket()
  const timer = setTimeout(() => reject(new Error(`no answer from ${address}`)), timeoutMs)
  let received = Buffer.alloc(0)
  socket.on("error", reject)
  socket.on("close", () => reject(new Error(`${address} closed the connection`)))
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    if (received.length < 2 || received.length < 2 + received.readUInt16BE()) return
    const reply = readReply(received.subarray(2, 2 + received.readUInt16BE()), query, id)
    if (reply === null) reject(new Error(`${address} answered something else`))
    else resolve(reply)
  })
  socket.connect(port, address, () => socket.write(framed(forwarded(query, id))))
  return promise.finally(() => {
    clearTimeout(timer)
    socket.destroy()
  })
}

/** By TCP a message comes after its length. */
export function framed(packet: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(packet.length)
  return Buffer.concat([length, packet])
}
