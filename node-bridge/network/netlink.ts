/**
 * Netlink messages (netlink(7)) and the socket that carries them: asking the kernel in-process takes microseconds where
 * spawning `ip`, `tc` or `nft` takes milliseconds. Every request is synchronous: the kernel has answered when `send` returns.
 *
 * Numbers are in the host's byte order, which is little-endian on every machine that we run on, unless a comment says so.
 */
import { closeSync } from "node:fs"
import { netlinkSocket, receiveNow, send } from "../native/libc.ts"

export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
const NLMSG_ERROR = 2
const HEADER_BYTES = 16
const NLA_F_NESTED = 0x8000
/** An answer carries the request's header and a few words of the kernel's; batches are answered message by message. */
const ANSWER_BYTES = 8192

export const u32 = (value: number) => {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32LE(value)
  return buffer
}
export const text = (value: string) => Buffer.from(`${value}\0`)
export const ipv4 = (value: string) => Buffer.from(value.split(".").map(Number))
export const mac = (value: string) => Buffer.from(value.replaceAll(":", ""), "hex")

/** One attribute: 16-bit length, 16-bit type, the value, padding to four bytes. */
export function attribute(type: number, ...values: Buffer[]): Buffer {
  const value = Buffer.concat(values)
  const buffer = Buffer.alloc((4 + value.length + 3) & ~3)
  buffer.writeUInt16LE(4 + value.length, 0)
  buffer.writeUInt16LE(type, 2)
  value.copy(buffer, 4)
  return buffer
}

/** An attribute of attributes, marked as such: nfnetlink insists on the mark. */
export const nested = (type: number, ...values: Buffer[]) => attribute(type | NLA_F_NESTED, ...values)

export function message(type: number, flags: number, sequence: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  const buffer = Buffer.alloc((HEADER_BYTES + body.length + 3) & ~3)
  buffer.writeUInt32LE(HEADER_BYTES + body.length, 0)
  buffer.writeUInt16LE(type, 4)
  buffer.writeUInt16LE(NLM_F_REQUEST | flags, 6)
  buffer.writeUInt32LE(sequence, 8)
  body.copy(buffer, HEADER_BYTES)
  return buffer
}

/** What the kernel said to one message: its sequence number and 0, or the errno. */
export interface Answer {
  readonly sequence: number
  readonly errno: number
}

/** A socket bound to the network namespace in which it was opened, wherever the thread goes later. */
export class NetlinkSocket {
  readonly #fd: number
  readonly #answer = Buffer.alloc(ANSWER_BYTES)

  /** `protocol` is a NETLINK_* number. */
  constructor(protocol: number) {
    this.#fd = netlinkSocket(protocol)
  }

  close(): void {
    closeSync(this.#fd)
  }

  /** Sends messages as one datagram and returns what the kernel answered to them, which it does before `send` returns. */
  ask(...messages: Buffer[]): Answer[] {
    send(this.#fd, Buffer.concat(messages))
    const answers: Answer[] = []
    for (;;) {
      const size = receiveNow(this.#fd, this.#answer)
      if (size === null) return answers
      for (let at = 0; at + HEADER_BYTES + 4 <= size;) {
        if (this.#answer.readUInt16LE(at + 4) === NLMSG_ERROR) {
          answers.push({ sequence: this.#answer.readUInt32LE(at + 8), errno: -this.#answer.readInt32LE(at + HEADER_BYTES) })
        }
        at += (Math.max(this.#answer.readUInt32LE(at), HEADER_BYTES) + 3) & ~3
      }
    }
  }
}
