/**
 * The wire format of DNS (RFC 1035, EDNS by RFC 6891), as far as a forwarding name server needs it. What comes in was written
 * by a stranger: every read is checked, and what cannot be read is null. Pure.
 */

export const TYPE = { A: 1, PTR: 12, AAAA: 28, OPT: 41, IXFR: 251, AXFR: 252, ANY: 255 } as const
export const CLASS_IN = 1
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const

const HEADER_BYTES = 12
const MAX_NAME_BYTES = 255
const QR = 0x8000
const AA = 0x0400
const TC = 0x0200
const RD = 0x0100
const RA = 0x0080
const AD = 0x0020
const CD = 0x0010
const RCODE_MASK = 0x000f
const OPCODE_MASK = 0x7800
const DO = 0x8000
/** What every path takes without fragments (DNS flag day 2020). */
export const EDNS_BYTES = 1232
/** What a client that says nothing of EDNS takes by UDP. */
const PLAIN_BYTES = 512

export interface Query {
  readonly id: number
  readonly opcode: number
  readonly flags: number
  /** Lower-case, without the last dot; a byte that is no letter, digit, hyphen or underscore is written `\ddd`. */
  readonly name: string
  readonly type: number
  readonly class: number
  /** The question section as it came: an answer repeats it, letter case and all. */
  readonly question: Buffer
  readonly edns: { readonly bytes: number; readonly dnssec: boolean } | null
}

interface Read<T> {
  readonly value: T
  readonly end: number
}

const labelText = (bytes: Buffer) =>
  [...bytes]
    .map((byte) => {
      const text = String.fromCharCode(byte)
      return /[a-z0-9_-]/i.test(text) ? text.toLowerCase() : `\\${String(byte).padStart(3, "0")}`
    })
    .join("")

/** A name without compression, as questions have it. */
function readPlainName(packet: Buffer, start: number): Read<string> | null {
  const labels: string[] = []
  for (let at = start; at < packet.length && at - start < MAX_NAME_BYTES;) {
    const length = packet.readUInt8(at)
    if (length === 0) return { value: labels.join("."), end: at + 1 }
    if (length > 63 || at + 1 + length > packet.length) return null
    labels.push(labelText(packet.subarray(at + 1, at + 1 + length)))
    at += 1 + length
  }
  return null
}

/** The end of a name that may be compressed; where a pointer leads is nobody's business here. */
function skipName(packet: Buffer, start: number): number | null {
  for (let at = start; at < packet.length && at - start < MAX_NAME_BYTES;) {
    const length = packet.readUInt8(at)
    if (length === 0) return at + 1
    if (length >= 0xc0) return at + 2 <= packet.length ? at + 2 : null
    if (length > 63) return null
    at += 1 + length
  }
  return null
}

export interface ResourceRecord {
  readonly type: number
  readonly class: number
  readonly ttl: number
  readonly data: Buffer
}

function readRecord(packet: Buffer, start: number): Read<ResourceRecord> | null {
  const at = skipName(packet, start)
  if (at === null || at + 10 > packet.length) return null
  const end = at + 10 + packet.readUInt16BE(at + 8)
  if (end > packet.length) return null
  const value = {
    type: packet.readUInt16BE(at),
    class: packet.readUInt16BE(at + 2),
    ttl: packet.readUInt32BE(at + 4),
    data: packet.subarray(at + 10, end),
  }
  return { value, end }
}

function readRecords(packet: Buffer, start: number, count: number): Read<ResourceRecord[]> | null {
  const value: ResourceRecord[] = []
  let end = start
  for (let left = count; left > 0; left--) {
    const record = readRecord(packet, end)
    if (record === null) return null
    value.push(record.value)
    end = record.end
  }
  return { value, end }
}

/** Null for what is no query, or one that not even an error can answer. */
export function readQuery(packet: Buffer): Query | "malformed" | null {
  if (packet.length < HEADER_BYTES) return null
  const flags = packet.readUInt16BE(2)
  if ((flags & QR) !== 0) return null
  const counts = [4, 6, 8].map((at) => packet.readUInt16BE(at))
  if (counts[0] !== 1 || counts[1] !== 0 || counts[2] !== 0) return "malformed"
  const name = readPlainName(packet, HEADER_BYTES)
  if (name === null || name.end + 4 > packet.length) return "malformed"
  const end = name.end + 4
  const extra = readRecords(packet, end, packet.readUInt16BE(10))
  if (extra === null) return "malformed"
  const edns = extra.value.find(({ type }) => type === TYPE.OPT)
  return {
    id: packet.readUInt16BE(0),
    opcode: (flags & OPCODE_MASK) >> 11,
    flags,
    name: name.value,
    type: packet.readUInt16BE(name.end),
    class: packet.readUInt16BE(name.end + 2),
    question: Buffer.from(packet.subarray(HEADER_BYTES, end)),
    edns: edns === undefined ? null : { bytes: edns.class, dnssec: (edns.ttl & DO) !== 0 },
  }
}

function header(id: number, flags: number, counts: readonly [number, number, number, number]): Buffer {
  const buffer = Buffer.alloc(HEADER_BYTES)
  for (const [index, value] of [id, flags, ...counts].entries()) buffer.writeUInt16BE(value, index * 2)
  return buffer
}

/** An OPT record of ours, which carries no option. */
function opt(dnssec: boolean): Buffer {
  const buffer = Buffer.alloc(11)
  buffer.writeUInt16BE(TYPE.OPT, 1)
  buffer.writeUInt16BE(EDNS_BYTES, 3)
  buffer.writeUInt16BE(dnssec ? DO : 0, 7)
  return buffer
}

const optOf = ({ edns }: Query) => (edns === null ? [] : [opt(edns.dnssec)])
const ednsCount = ({ edns }: Query) => (edns === null ? 0 : 1)

/** An answer of our own: the records have the question's name. */
export function answer(query: Query, rcode: number, records: readonly Omit<ResourceRecord, "class">[] = []): Buffer {
  const flags = QR | (query.flags & (OPCODE_MASK | RD)) | RA | AA | rcode
  const body = records.map(({ type, ttl, data }) => {
    const head = Buffer.alloc(12)
    head.writeUInt16BE(0xc000 | HEADER_BYTES, 0)
    head.writeUInt16BE(type, 2)
    head.writeUInt16BE(CLASS_IN, 4)
    head.writeUInt32BE(ttl, 6)
    head.writeUInt16BE(data.length, 10)
    return Buffer.concat([head, data])
  })
  const counts = [1, records.length, 0, ednsCount(query)] as const
  return Buffer.concat([header(query.id, flags, counts), query.question, ...body, ...optOf(query)])
}

/** What answers a packet that could not be read. */
export const formatError = (packet: Buffer): Buffer => header(packet.readUInt16BE(0), QR | RCODE.FORMERR, [0, 0, 0, 0])

/** The same question in our own words: nothing of the client's but the question and whether it wants signatures goes out. */
export function forwarded(query: Query, id: number): Buffer {
  const flags = RD | (query.flags & CD)
  return Buffer.concat([header(id, flags, [1, 0, 0, 1]), query.question, opt(query.edns?.dnssec ?? false)])
}

/** A reply that was checked to be to the question asked. */
export interface Reply {
  readonly truncated: boolean
  readonly rcode: number
  readonly flags: number
  readonly counts: readonly [number, number]
  /** Answer and authority sections, as they came. */
  readonly sections: Buffer
  readonly records: readonly ResourceRecord[]
}

/** Null when the packet is not the reply to `forwarded(query, id)`, or cannot be read. */
export function readReply(packet: Buffer, query: Query, id: number): Reply | null {
  if (packet.length < HEADER_BYTES || packet.readUInt16BE(0) !== id) return null
  const flags = packet.readUInt16BE(2)
  if ((flags & QR) === 0 || (flags & OPCODE_MASK) !== 0 || packet.readUInt16BE(4) !== 1) return null
  const start = HEADER_BYTES + query.question.length
  const name = readPlainName(packet, HEADER_BYTES)
  if (name === null || name.end + 4 !== start || start > packet.length || name.value !== query.name) return null
  if (!packet.subarray(name.end, start).equals(query.question.subarray(-4))) return null
  const counts = [packet.readUInt16BE(6), packet.readUInt16BE(8)] as const
  const truncated = (flags & TC) !== 0
  const records = truncated ? { value: [], end: start } : readRecords(packet, start, counts[0] + counts[1])
  if (records === null) return null
  const sections = Buffer.from(packet.subarray(start, records.end))
  return { truncated, rcode: flags & RCODE_MASK, flags, counts: truncated ? [0, 0] : counts, sections, records: records.value }
}

/**
 * A reply as the client gets it: the additional section is left out, where servers tell of themselves, and pointers lead
 * backwards only, so that the rest stays right.
 */
export function relayed(query: Query, reply: Reply): Buffer {
  const flags = QR | RA | (query.flags & RD) | (reply.flags & (TC | AD | CD)) | reply.rcode
  const counts = [1, ...reply.counts, ednsCount(query)] as const
  return Buffer.concat([header(query.id, flags, counts), query.question, reply.sections, ...optOf(query)])
}

/** By UDP, what is longer than the client takes becomes an empty answer that says so: it asks again by TCP. */
export function fitted(query: Query, packet: Buffer): Buffer {
  const room = Math.min(Math.max(query.edns?.bytes ?? PLAIN_BYTES, PLAIN_BYTES), EDNS_BYTES)
  if (packet.length <= room) return packet
  const flags = packet.readUInt16BE(2) | TC
  return Buffer.concat([header(query.id, flags, [1, 0, 0, ednsCount(query)]), query.question, ...optOf(query)])
}
