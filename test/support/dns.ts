/** Questions to a name server from inside a namespace, and a name server of the world's that says what a test wants. */
import { createSocket } from "node:dgram"
import { createServer } from "node:net"
import { within } from "./networks.ts"

/** The bytes of a query. `extra` goes into the OPT record as an option. */
export function aQuery(
  name: string,
  { id = 0x1234, type = 1, klass = 1, edns = 0 }: { id?: number; type?: number; klass?: number; edns?: number } = {},
): Buffer {
  const labels = name === "" ? [] : name.split(".").map((label) => Buffer.from([label.length, ...Buffer.from(label)]))
  const header = Buffer.alloc(12)
  for (const [index, value] of [id, 0x0100, 1, 0, 0, edns > 0 ? 1 : 0].entries()) header.writeUInt16BE(value, index * 2)
  const tail = Buffer.alloc(5)
  tail.writeUInt16BE(type, 1)
  tail.writeUInt16BE(klass, 3)
  // OPT with a client's name-server-identifier option (RFC 5001).
  const opt = Buffer.from([0, 0, 41, edns >> 8, edns & 0xff, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0])
  return Buffer.concat([header, ...labels, tail, ...(edns > 0 ? [opt] : [])])
}

export interface AnAnswer {
  readonly id: number
  readonly rcode: number
  readonly truncated: boolean
  readonly addresses: readonly string[]
  readonly extra: number
  readonly bytes: number
}

/** Reads answers whose names are all pointers, as ours and this file's are. */
export function readAnswer(packet: Buffer): AnAnswer {
  const flags = packet.readUInt16BE(2)
  let at = 12
  if (packet.readUInt16BE(4) === 1) {
    while (packet.readUInt8(at) !== 0) at += 1 + packet.readUInt8(at)
    at += 5
  }
  const addresses = Array.from({ length: packet.readUInt16BE(6) }, () => {
    const length = packet.readUInt16BE(at + 10)
    const data = packet.subarray(at + 12, at + 12 + length)
    at += 12 + length
    return [...data].join(".")
  })
  const extra = packet.readUInt16BE(10)
  return {
    id: packet.readUInt16BE(0),
    rcode: flags & 15,
    truncated: (flags & 0x0200) !== 0,
    addresses,
    extra,
    bytes: packet.length,
  }
}

/** Null when nothing came back within a second and a half. */
export async function ask(
  netns: string,
  server: string,
  query: Buffer,
  { by = "udp", port = 53 }: { by?: "udp" | "tcp"; port?: number } = {},
): Promise<AnAnswer | null> {
  const source = `
import socket, sys
query = bytes.fromhex(sys.argv[1]); to = (sys.argv[2], int(sys.argv[4]))
if sys.argv[3] == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1.5); s.connect(to); s.send(query); print(s.recv(65535).hex())
else:
    s = socket.create_connection(to, 1.5); s.sendall(len(query).to_bytes(2, "big") + query)
    f = s.makefile("rb"); print(f.read(int.from_bytes(f.read(2), "big")).hex())`
  const out = await within(netns, "/usr/bin/python3", "-c", source, query.toString("hex"), server, by, String(port))
  return out === null || out.trim() === "" ? null : readAnswer(Buffer.from(out.trim(), "hex"))
}

export interface Upstream {
  /** As `nameservers` of the pool takes it. */
  readonly address: string
  readonly asked: readonly { readonly name: string; readonly packet: Buffer; readonly by: "udp" | "tcp" }[]
  close(): Promise<void>
}

/** What a name server says to a question: addresses, or whole packets in order, or nothing. */
export type Says = (name: string, packet: Buffer, by: "udp" | "tcp") => readonly string[] | readonly Buffer[] | null

/** The answer that a server gives to a query's packet: one record for each address, by its length IPv4 or IPv6. */
export function replyTo(
  packet: Buffer,
  addresses: readonly (string | Buffer)[],
  changes: { id?: number; flags?: number } = {},
): Buffer {
  let end = 12
  while (packet.readUInt8(end) !== 0) end += 1 + packet.readUInt8(end)
  const question = packet.subarray(12, end + 5)
  const header = Buffer.alloc(12)
  const fields = [changes.id ?? packet.readUInt16BE(0), changes.flags ?? 0x8180, 1, addresses.length, 0, 1]
  for (const [index, value] of fields.entries()) header.writeUInt16BE(value, index * 2)
  const records = addresses.map((address) => {
    const data = typeof address === "string" ? Buffer.from(address.split(".").map(Number)) : address
    const head = Buffer.from([0xc0, 12, 0, data.length === 4 ? 1 : 28, 0, 1, 0, 0, 0, 60, 0, data.length])
    return Buffer.concat([head, data])
  })
  // An OPT record that says who answered (RFC 5001), as a resolver may.
  const opt = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 8, 0, 3, 0, 4, 0x68, 0x6f, 0x73, 0x74])
  return Buffer.concat([header, question, ...records, opt])
}

export async function upstream(says: Says): Promise<Upstream> {
  const asked: { name: string; packet: Buffer; by: "udp" | "tcp" }[] = []
  const answers = (packet: Buffer, by: "udp" | "tcp"): readonly Buffer[] => {
    const labels: string[] = []
    for (let at = 12; packet.readUInt8(at) !== 0; at += 1 + packet.readUInt8(at))
      labels.push(packet.subarray(at + 1, at + 1 + packet.readUInt8(at)).toString())
    const name = labels.join(".").toLowerCase()
    asked.push({ name, packet, by })
    const said = says(name, packet, by) ?? []
    const raw = said.filter((one): one is Buffer => Buffer.isBuffer(one))
    return raw.length > 0 || said.length === 0 ? raw : [replyTo(packet, said)]
  }
  const udp = createSocket("udp4")
  await new Promise<void>((resolve) => udp.bind(0, "127.0.0.1", resolve))
  const { port } = udp.address()
  udp.on("message", (packet, from) => {
    for (const answer of answers(packet, "udp")) udp.send(answer, from.port, from.address)
  })
  const tcp = createServer((socket) => {
    socket.on("error", () => {})
    socket.on("data", (data) => {
      for (const answer of answers(data.subarray(2), "tcp")) {
        const length = Buffer.alloc(2)
        length.writeUInt16BE(answer.length)
        socket.write(Buffer.concat([length, answer]))
      }
    })
  })
  await new Promise<void>((resolve) => tcp.listen(port, "127.0.0.1", resolve))
  return {
    address: `127.0.0.1#${port}`,
    asked,
    close: async () => {
      await Promise.all([
        new Promise<void>((resolve) => udp.close(() => resolve())),
        new Promise((resolve) => tcp.close(resolve)),
      ])
    },
  }
}
