/**
 * Every run's network, and namespaces kept ready for the next ones. Making one takes about 1.3 ms of this thread, so the
 * pool is a saving and never a queue: when it is empty, the caller's network is made on the spot.
 *
 * What the host knows is the truth: a link of ours is a slot in use, whoever made it. A crash loses only idle namespaces,
 * which the kernel takes down with their descriptors; those of live containers stay up with their processes, under rules
 * that name no container.
 */
import { createHash } from "node:crypto"
import { closeSync, existsSync, openSync, readFileSync, readdirSync } from "node:fs"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { SystemCallError } from "../native/libc.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { LiveNetwork, Network, NetworkPool } from "../runtime/ports.ts"
import type { AddressRange } from "./addresses.ts"
import * as addresses from "./addresses.ts"
import * as host from "./host.ts"
import { NamespaceMaker } from "./namespaces.ts"
import { dropTable, ruleset } from "./rules.ts"

/** The pool refills when nothing was taken for so long: starts in flight come first. */
const QUIET_MS = 50
/** Between two namespaces of a refill, so that it never holds the thread for longer than one. */
const REFILL_GAP_MS = 5
/** A closed namespace's link is gone in well under a second; one that stays longer is deleted. */
const LINK_GONE_MS = 3_000
/** After a restart: what the dead process held is gone by then, and the rest is held by processes that nobody wants. */
const LEFTOVER_GONE_MS = 200
const LINK_POLL_MS = 20

export interface PoolOptions {
  /** The state directory: its hash names this bridge's links and table, so that two on one host never meet. */
  readonly stateDir: string
  /** Addresses of the containers. Nothing else on the host may route into it. */
  readonly range?: string
  /** Namespaces kept ready. */
  readonly size?: number
  /** Name servers for a host that has none a container can reach. */
  readonly fallbackNameservers?: readonly string[]
  /** IPv4 networks that no container may reach, besides the private ones. */
  readonly closedNetworks?: readonly string[]
}

/** Carrier-grade NAT space (RFC 6598): never on the public internet, rarely inside a data centre. */
export const DEFAULT_RANGE = "100.72.0.0/16"
/** More than are started at once on a small host; each takes some 0.3 MiB of the kernel's memory. */
const DEFAULT_SIZE = 48
const DEFAULT_NAMESERVERS = ["9.9.9.9", "1.1.1.1"]

/** A network by its descriptor; slot and address are null with loopback only. */
interface Held {
  readonly fd: number
  readonly slot: number | null
  readonly address: string | null
}

export class NamespacePool implements NetworkPool {
  readonly #instance: string
  readonly #range: AddressRange
  readonly #size: number
  readonly #mtu: number
  readonly #nameservers: readonly string[]
  readonly #maker = new NamespaceMaker()
  readonly #idle: Held[] = []
  readonly #taken = new Map<RunId, Held>()
  readonly #slots = new Set<number>()
  readonly #leaving = new Set<Promise<void>>()
  #lastSlot: number | null = null
  #refilling: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  #closed = false
  /** What was changed on the host besides our own table, for the log. */
  readonly notes: string[] = []

  private constructor(options: PoolOptions) {
    this.#instance = createHash("sha256").update(options.stateDir).digest("hex")
    this.#range = addresses.parseRange(options.range ?? DEFAULT_RANGE)
    this.#size = options.size ?? DEFAULT_SIZE
    this.#mtu = host.uplinkMtu()
    this.#nameservers = host.nameserversOf(options.fallbackNameservers ?? DEFAULT_NAMESERVERS)
  }

  /** Puts the rules in place; from then on a network may be taken. Throws a sentence for the operator. */
  static async open(options: PoolOptions): Promise<NamespacePool> {
    const pool = new NamespacePool(options)
    const routes = addresses.parseRoutes(readFileSync("/proc/net/route", "latin1"))
    // A /32 inside the range may be a container of another bridge on this host: slots are chosen around those.
    const [clash] = addresses.overlapping(pool.#range, routes, () => false).filter((route) => route.prefix < 32)
    if (clash !== undefined) {
      pool.#maker.close()
      const range = addresses.formatRange(pool.#range)
      throw new Error(`the containers' range ${range} overlaps a route of ${clash.device}: choose another range`)
    }
    await host.loadRules(
      ruleset({
        instance: pool.#instance,
        range: pool.#range,
        nameservers: pool.#nameservers,
        closedNetworks: options.closedNetworks ?? [],
      }),
    )
    if (host.ensureForwarding()) pool.notes.push("switched on net.ipv4.ip_forward: containers with egress need it")
    if (await host.dockerAccepts(pool.#range, true))
      pool.notes.push("accepted the containers' range in Docker's DOCKER-USER chain")
    return pool
  }

  // oxlint-disable-next-line require-await -- the port is asynchronous; this implementation answers at once
  async take(runId: RunId, _tenantId: TenantId, egress: "open" | "none"): Promise<Network> {
    if (this.#closed) throw new Error("the network pool is closed")
    let held = this.#taken.get(runId)
    if (held === undefined) {
      held = egress === "none" ? this.#makeLoopback() : (this.#idle.shift() ?? this.#makeRouted())
      this.#taken.set(runId, held)
      if (egress === "open") this.#refillWhenQuiet()
    }
    return {
      netnsPath: `/proc/${process.pid}/fd/${held.fd}`,
      address: held.address,
      nameservers: held.address === null ? [] : this.#nameservers,
    }
  }

  async release(runId: RunId): Promise<void> {
    const held = this.#taken.get(runId)
    if (held === undefined) return
    this.#taken.delete(runId)
    this.#let(held)
  }

  async recover(live: readonly LiveNetwork[]): Promise<void> {
    for (const network of live) {
      if (this.#taken.has(network.runId)) continue
      const slot = network.address === null ? null : addresses.slotOf(this.#range, network.address)
      try {
        const fd = openSync(`/proc/${network.pid}/ns/net`, "r")
        this.#taken.set(network.runId, { fd, slot, address: network.address })
        if (slot !== null) this.#slots.add(slot)
      } catch {
        // It ended meanwhile: its namespace goes by itself, and its link with the ones below if that is slow.
      }
    }
    const inUse = new Set([...this.#slots].map((slot) => addresses.linkName(this.#instance, slot)))
    const others = this.#links().filter((name) => !inUse.has(name))
    await Promise.all(others.map((name) => this.#linkGone(name, LEFTOVER_GONE_MS)))
  }

  refill(): Promise<void> {
    this.#refilling ??= this.#fill().finally(() => {
      this.#refilling = null
    })
    return this.#refilling
  }

  /** With no container left, the table goes too; otherwise it stays, for it is what confines them. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#refilling
    for (const held of this.#idle.splice(0)) this.#let(held)
    await Promise.all(this.#leaving)
    const alone = this.#taken.size === 0
    for (const held of this.#taken.values()) closeSync(held.fd)
    this.#taken.clear()
    if (alone && this.#links().length === 0) {
      await host.loadRules(dropTable(this.#instance))
      await host.dockerAccepts(this.#range, false)
    }
    this.#maker.close()
  }

  #links(): string[] {
    const prefix = addresses.linkPrefix(this.#instance)
    return readdirSync("/sys/class/net").filter((name) => name.startsWith(prefix))
  }

  #makeLoopback(): Held {
    return { fd: this.#maker.loopbackOnly(), slot: null, address: null }
  }

  #makeRouted(): Held {
    for (let tries = 0; tries < addresses.slotCount(this.#range); tries++) {
      const slot = addresses.nextSlot(this.#range, this.#slots, this.#lastSlot)
      if (slot === null) break
      this.#lastSlot = slot
      const address = addresses.addressOf(this.#range, slot)
      const pair = {
        linkName: addresses.linkName(this.#instance, slot),
        address,
        gateway: addresses.gatewayOf(this.#range),
        mtu: this.#mtu,
      }
      try {
        const fd = this.#maker.routed(pair)
        this.#slots.add(slot)
        return { fd, slot, address }
      } catch (error) {
        // Somebody has this slot: a container we were not told of, or another bridge with the same range. Pass by.
        if (!(error instanceof SystemCallError && error.code === "EEXIST")) throw error
      }
    }
    throw new ControllerError("network_exhausted", "The node has no network address left for another container.", {
      retryable: true,
    })
  }

  async #fill(): Promise<void> {
    while (!this.#closed && this.#idle.length < this.#size) {
      this.#idle.push(this.#makeRouted())
      await delay(REFILL_GAP_MS)
    }
  }

  #refillWhenQuiet(): void {
    if (this.#timer !== null) this.#timer.refresh()
    else {
      this.#timer = setTimeout(() => {
        this.#timer = null
        this.refill().catch(() => {
          // The next take makes its own, and that one tells why it failed.
        })
      }, QUIET_MS)
      this.#timer.unref()
    }
  }

  /** Lets a network go. Its address is free again when the kernel has taken its link down, some 50 ms later. */
  #let(held: Held): void {
    closeSync(held.fd)
    const { slot } = held
    if (slot === null) return
    const leaving = this.#awaitSlot(slot).finally(() => this.#leaving.delete(leaving))
    this.#leaving.add(leaving)
  }

  async #awaitSlot(slot: number): Promise<void> {
    try {
      await this.#linkGone(addresses.linkName(this.#instance, slot), LINK_GONE_MS)
      this.#slots.delete(slot)
    } catch {
      // The kernel keeps the link: so the slot stays taken, and the next start tries again.
    }
  }

  async #linkGone(name: string, withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs
    while (existsSync(`/sys/class/net/${name}`)) {
      if (performance.now() > deadline) return void this.#maker.deleteLink(name)
      await delay(LINK_POLL_MS)
    }
  }
}

const delay = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
