/**
 * Links, addresses and routes, asked of the kernel directly over rtnetlink (rtnetlink(7), linux/rtnetlink.h): a namespace is
 * made in about a millisecond where spawning `ip` takes ten. Every request is synchronous: the kernel answers within `send`.
 *
 * Only what a routed veth pair needs is here. IPv4 alone.
 */
import { closeSync } from "node:fs"
import { constants } from "node:os"
import { SystemCallError, netlinkSocket, receive, send } from "../native/libc.ts"

const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const RTM_NEWADDR = 20
const RTM_NEWROUTE = 24
const NLM_F_REQUEST = 0x1
const NLM_F_ACK = 0x4
const NLM_F_EXCL = 0x200
const NLM_F_CREATE = 0x400
const NLMSG_ERROR = 2
const NLMSG_HEADER_BYTES = 16

const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINKINFO = 18
const IFLA_NET_NS_FD = 28
const IFLA_NUM_TX_QUEUES = 31
const IFLA_NUM_RX_QUEUES = 32
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const VETH_INFO_PEER = 1
const IFF_UP = 1

const AF_INET = 2
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const RTA_DST = 1
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RT_TABLE_MAIN = 254
const RTPROT_STATIC = 4
const RT_SCOPE_UNIVERSE = 0
const RT_SCOPE_LINK = 253
const RTN_UNICAST = 1
const RTNH_F_ONLINK = 4

const u32 = (value: number) => {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32LE(value)
  return buffer
}
const text = (value: string) => Buffer.from(`${value}\0`)
const ipv4 = (value: string) => Buffer.from(value.split(".").map(Number))

/** One attribute: 16-bit length, 16-bit type, the value, padding to four bytes. */
function attribute(type: number, ...values: Buffer[]): Buffer {
  const value = Buffer.concat(values)
  const buffer = Buffer.alloc((4 + value.length + 3) & ~3)
  buffer.writeUInt16LE(4 + value.length, 0)
  buffer.writeUInt16LE(type, 2)
  value.copy(buffer, 4)
  return buffer
}

/** struct ifinfomsg. */
function linkHeader(index: number, flags = 0, change = 0): Buffer {
  const buffer = Buffer.alloc(16)
  buffer.writeInt32LE(index, 4)
  buffer.writeUInt32LE(flags, 8)
  buffer.writeUInt32LE(change, 12)
  return buffer
}

/** One end of a veth pair. */
export interface VethEnd {
  readonly name: string
  /** Six bytes, lower-case hex with colons; the kernel would pick a random one. */
  readonly mac: string
}

/** A socket bound to the network namespace in which it was opened, wherever the thread goes later. */
export class RouteSocket {
  readonly #fd: number
  readonly #answer = Buffer.alloc(8192)
  #sequence = 0

  constructor() {
    this.#fd = netlinkSocket()
  }

  close(): void {
    closeSync(this.#fd)
  }

  #request(what: string, type: number, flags: number, ...parts: Buffer[]): void {
    const body = Buffer.concat(parts)
    const header = Buffer.alloc(NLMSG_HEADER_BYTES)
    header.writeUInt32LE(NLMSG_HEADER_BYTES + body.length, 0)
    header.writeUInt16LE(type, 4)
    header.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK | flags, 6)
    header.writeUInt32LE(++this.#sequence, 8)
    send(this.#fd, Buffer.concat([header, body]))
    const size = receive(this.#fd, this.#answer)
    if (size < NLMSG_HEADER_BYTES + 4 || this.#answer.readUInt16LE(4) !== NLMSG_ERROR)
      throw new Error(`${what}: unexpected answer`)
    const errno = -this.#answer.readInt32LE(NLMSG_HEADER_BYTES)
    if (errno !== 0) throw new SystemCallError(what, errno)
  }

  /** A veth pair with `near` here and `far` in the namespace that `farNetns` holds. One queue each: they are many. */
  addVeth(near: VethEnd, far: VethEnd, farNetns: number, mtu: number): void {
    const end = (veth: VethEnd) =>
      Buffer.concat([
        attribute(IFLA_IFNAME, text(veth.name)),
        attribute(IFLA_ADDRESS, Buffer.from(veth.mac.replaceAll(":", ""), "hex")),
        attribute(IFLA_MTU, u32(mtu)),
        attribute(IFLA_NUM_TX_QUEUES, u32(1)),
        attribute(IFLA_NUM_RX_QUEUES, u32(1)),
      ])
    const peer = attribute(VETH_INFO_PEER, linkHeader(0), end(far), attribute(IFLA_NET_NS_FD, u32(farNetns)))
    const info = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, text("veth")), attribute(IFLA_INFO_DATA, peer))
    this.#request(`add veth ${near.name}`, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, linkHeader(0), end(near), info)
  }

  linkUp(index: number): void {
    this.#request("link up", RTM_NEWLINK, 0, linkHeader(index, IFF_UP, IFF_UP))
  }

  /** Deletes a link and its peer, wherever that is. False when there was none. */
  deleteLink(name: string): boolean {
    try {
      this.#request(`delete link ${name}`, RTM_DELLINK, 0, linkHeader(0), attribute(IFLA_IFNAME, text(name)))
      return true
    } catch (error) {
      if (error instanceof SystemCallError && error.errno === constants.errno.ENODEV) return false
      throw error
    }
  }

  addAddress(index: number, address: string): void {
    const header = Buffer.alloc(8)
    header.writeUInt8(AF_INET, 0)
    header.writeUInt8(32, 1)
    header.writeUInt32LE(index, 4)
    const value = ipv4(address)
    const attributes = [attribute(IFA_LOCAL, value), attribute(IFA_ADDRESS, value)]
    this.#request(`add address ${address}`, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, header, ...attributes)
  }

  /** `destination/32 dev index`. */
  addHostRoute(index: number, destination: string): void {
    this.#route(
      `add route ${destination}`,
      32,
      RT_SCOPE_LINK,
      0,
      attribute(RTA_DST, ipv4(destination)),
      attribute(RTA_OIF, u32(index)),
    )
  }

  /** `default via gateway dev index onlink`. */
  addDefaultRoute(index: number, gateway: string): void {
    const attributes = [attribute(RTA_GATEWAY, ipv4(gateway)), attribute(RTA_OIF, u32(index))]
    this.#route("add default route", 0, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK, ...attributes)
  }

  #route(what: string, prefix: number, scope: number, flags: number, ...attributes: Buffer[]): void {
    const header = Buffer.from([AF_INET, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0, 0, 0, 0])
    header.writeUInt32LE(flags, 8)
    // Never in place of another route: that one may be a container of another bridge's.
    this.#request(what, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, header, ...attributes)
  }
}
