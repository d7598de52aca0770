/**
 * Makes one network namespace, in-process and synchronously: about 0.5 ms for loopback alone, 1.3 ms with a routed veth pair.
 * The namespace is a descriptor and nothing else: when the last process in it and the last descriptor are gone, the kernel
 * takes it and its links down by itself, so a crash leaves nothing to clear.
 *
 * `setns` moves the thread that calls it: every excursion is one synchronous call that ends at home. A thread that cannot
 * come home must not go on, for whatever it spawned next would run inside a container's network.
 */
import { closeSync, openSync } from "node:fs"
import { CLONE_NEWNET, interfaceIndex, setns, unshare } from "../native/libc.ts"
import { RouteSocket } from "./rtnetlink.ts"
import { NetworkSettings } from "./settings.ts"
import { macOf } from "./addresses.ts"
import type { Shape } from "./shape.ts"

const LOOPBACK_INDEX = 1
/** What every container calls its end. */
export const INSIDE_NAME = "eth0"
/** The host's end of every pair: nobody else is on the link, so all may have the same. */
const NEAR_MAC = "02:62:00:00:00:01"

/**
 * Every port may be bound without a capability, and ping works: a network of one's own has nobody to protect from that.
 * The groups are the host's numbers of any container's groups. IPv6 is off but for loopback: there is no address to give.
 */
const INSIDE_SETTINGS = [
  ["ipv4/ip_unprivileged_port_start", "0"],
  ["ipv4/ping_group_range", "0 2147483647"],
  ["ipv6/conf/all/disable_ipv6", "1"],
  ["ipv6/conf/default/disable_ipv6", "1"],
  ["ipv6/conf/lo/disable_ipv6", "0"],
] as const

export interface Pair {
  readonly linkName: string
  readonly address: string
  readonly gateway: string
  readonly mtu: number
}

/** What may go into and out of a container; null for no limit. */
export interface Shapes {
  readonly ingress: Shape | null
  readonly egress: Shape | null
}

function configureFar(inside: RouteSocket, { address, gateway }: Pair): void {
  const index = interfaceIndex(INSIDE_NAME)
  inside.addAddress(index, address)
  inside.linkUp(index)
  inside.addNeighbour(index, gateway, NEAR_MAC)
  inside.addHostRoute(index, gateway)
  inside.addDefaultRoute(index, gateway)
}

/** Opens the calling thread's network namespace. */
const openCurrent = () => openSync("/proc/thread-self/ns/net", "r")

export class NamespaceMaker {
  readonly #home = openCurrent()
  readonly #host = new RouteSocket()
  readonly #settings = new NetworkSettings()

  close(): void {
    this.#settings.close()
    this.#host.close()
    closeSync(this.#home)
  }

  #goHome(): void {
    try {
      setns(this.#home, CLONE_NEWNET)
    } catch {
      process.abort()
    }
  }

  /** A namespace with loopback only, as a descriptor that the caller closes. */
  loopbackOnly(): number {
    unshare(CLONE_NEWNET)
    try {
      for (const [name, value] of INSIDE_SETTINGS) this.#settings.write(name, value)
      const inside = new RouteSocket()
      try {
        inside.linkUp(LOOPBACK_INDEX)
      } finally {
        inside.close()
      }
      return openCurrent()
    } finally {
      this.#goHome()
    }
  }

  /**
   * A namespace with a routed pair, as a descriptor that the caller closes. `EEXIST` (a `SystemCallError`) when the link or
   * the route to the address is already on the host; nothing is left behind then.
   */
  routed(pair: Pair): number {
    const netns = this.loopbackOnly()
    try {
      this.attach(netns, pair)
      return netns
    } catch (error) {
      closeSync(netns)
      throw error
    }
  }

  /** Gives a namespace with loopback only a routed pair; `EEXIST` as above. */
  attach(netns: number, pair: Pair): void {
    const near = { name: pair.linkName, mac: NEAR_MAC }
    this.#host.addVeth(near, { name: INSIDE_NAME, mac: macOf(pair.address) }, netns, pair.mtu)
    try {
      this.#configureNear(pair)
      this.#inside(netns, (inside) => configureFar(inside, pair))
    } catch (error) {
      this.#host.deleteLink(pair.linkName)
      throw error
    }
  }

  /** Limits what passes a pair, in place. The container's end is out of its reach: the namespace belongs to the host. */
  shape(netns: number, linkName: string, { ingress, egress }: Shapes): void {
    this.#host.setShape(interfaceIndex(linkName), ingress)
    this.#inside(netns, (inside) => inside.setShape(interfaceIndex(INSIDE_NAME), egress))
  }

  #configureNear(pair: Pair): void {
    this.#settings.write(`ipv6/conf/${pair.linkName}/disable_ipv6`, "1")
    const index = interfaceIndex(pair.linkName)
    this.#host.addAddress(index, pair.gateway)
    // Nobody is asked who has which address, and nobody's claim is heard.
    this.#host.linkUpWithoutArp(index)
    this.#host.addNeighbour(index, pair.address, macOf(pair.address))
    this.#host.addHostRoute(index, pair.address)
  }

  #inside(netns: number, work: (inside: RouteSocket) => void): void {
    setns(netns, CLONE_NEWNET)
    try {
      const inside = new RouteSocket()
      try {
        work(inside)
      } finally {
        inside.close()
      }
    } finally {
      this.#goHome()
    }
  }

  /** Deletes a link of the host's and its peer: some 20 ms in the kernel, so only for what a crash left. */
  deleteLink(name: string): boolean {
    return this.#host.deleteLink(name)
  }
}
