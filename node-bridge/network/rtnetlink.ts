/**
 * Links, addresses, routes, neighbours and rates, asked of the kernel directly over rtnetlink (rtnetlink(7),
 * linux/rtnetlink.h, linux/pkt_sched.h).
 *
 * Only what a routed veth pair needs is here. IPv4 alone.
 */
import { constants } from "node:os"
import { SystemCallError } from "../native/libc.ts"
import * as netlink from "./netlink.ts"
import { attribute, ipv4, mac, text, u32 } from "./netlink.ts"
import type { Shape } from "./shape.ts"

const NETLINK_ROUTE = 0
const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const RTM_NEWADDR = 20
const RTM_NEWROUTE = 24
const RTM_NEWNEIGH = 28
const RTM_NEWQDISC = 36
const RTM_DELQDISC = 37
const { NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } = netlink

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
const IFF_UP = 0x1
const IFF_NOARP = 0x80

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
const NDA_DST = 1
const NDA_LLADDR = 2
const NUD_PERMANENT = 0x80
const TC_H_ROOT = 0xffffffff
const TCA_KIND = 1
const TCA_OPTIONS = 2
const TCA_TBF_PARMS = 1
const TCA_TBF_RATE64 = 4
const TCA_TBF_BURST = 6
const TC_LINKLAYER_ETHERNET = 1
const U32_MAX = 0xffffffff

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

/** struct tcmsg, for the queue of a link's outgoing side. */
function queueHeader(index: number): Buffer {
  const buffer = Buffer.alloc(20)
  buffer.writeInt32LE(index, 4)
  buffer.writeUInt32LE(TC_H_ROOT, 12)
  return buffer
}

/** struct tc_tbf_qopt: rate, peak rate, limit, buffer, mtu. The burst goes in an attribute of its own, in bytes. */
function tokenBucket(shape: Shape): Buffer {
  const buffer = Buffer.alloc(36)
  buffer.writeUInt8(TC_LINKLAYER_ETHERNET, 1)
  buffer.writeUInt32LE(Math.min(shape.bytesPerSecond, U32_MAX), 8)
  buffer.writeUInt32LE(shape.limitBytes, 24)
  return buffer
}

/** Requests in the network namespace in which it was opened. */
export class RouteSocket {
  readonly #socket = new netlink.NetlinkSocket(NETLINK_ROUTE)
  #sequence = 0

  close(): void {
    this.#socket.close()
  }

  #request(what: string, type: number, flags: number, ...parts: Buffer[]): void {
    const sequence = ++this.#sequence
    const answers = this.#socket.ask(netlink.message(type, NLM_F_ACK | flags, sequence, ...parts))
    const answer = answers.find((one) => one.sequence === sequence)
    if (answer === undefined) throw new Error(`${what}: no answer`)
    if (answer.errno !== 0) throw new SystemCallError(what, answer.errno)
  }

  /** A veth pair with `near` here and `far` in the namespace that `farNetns` holds. One queue each: they are many. */
  addVeth(near: VethEnd, far: VethEnd, farNetns: number, mtu: number): void {
    const end = (veth: VethEnd) =>
      Buffer.concat([
        attribute(IFLA_IFNAME, text(veth.name)),
        attribute(IFLA_ADDRESS, mac(veth.mac)),
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

  /** Up, and deaf and dumb to address resolution: who is at the other end is said by `addNeighbour` alone. */
  linkUpWithoutArp(index: number): void {
    const flags = IFF_UP | IFF_NOARP
    this.#request("link up", RTM_NEWLINK, 0, linkHeader(index, flags, flags))
  }

  /** Says for good which hardware address an address of the link has. */
  addNeighbour(index: number, address: string, hardware: string): void {
    const header = Buffer.alloc(12)
    header.writeUInt8(AF_INET, 0)
    header.writeInt32LE(index, 4)
    header.writeUInt16LE(NUD_PERMANENT, 8)
    const attributes = [attribute(NDA_DST, ipv4(address)), attribute(NDA_LLADDR, mac(hardware))]
    this.#request(`add neighbour ${address}`, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, header, ...attributes)
  }

  /** Lets out of the link no more than the shape says (tc-tbf(8)); null takes a limit away. In place: what waits goes on waiting. */
  setShape(index: number, shape: Shape | null): void {
    const header = queueHeader(index)
    if (shape === null) {
      try {
        this.#request("delete queue", RTM_DELQDISC, 0, header)
      } catch (error) {
        if (!(error instanceof SystemCallError && error.errno === constants.errno.ENOENT)) throw error
      }
      return
    }
    const rate = Buffer.alloc(8)
    rate.writeBigUInt64LE(BigInt(shape.bytesPerSecond))
    const options = [
      attribute(TCA_TBF_PARMS, tokenBucket(shape)),
      attribute(TCA_TBF_BURST, u32(shape.burstBytes)),
      ...(shape.bytesPerSecond >= U32_MAX ? [attribute(TCA_TBF_RATE64, rate)] : []),
    ]
    const attributes = [attribute(TCA_KIND, text("tbf")), attribute(TCA_OPTIONS, ...options)]
    this.#request("set queue", RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, header, ...attributes)
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
