/**
 * Every run's network: a namespace, a link, a place in the packet filter, rates, and names. Namespaces are kept ready for the
 * next runs. Making one takes about 1.3 ms of this thread, so the pool is a saving and never a queue: when it is empty, the
 * caller's network is made on the spot.
 *
 * A crash loses only idle namespaces, which the kernel takes down with their descriptors; those of live containers stay up
 * with their processes, under the rules that were in force. The next bridge replaces these by its own in one transaction.
 */
import { createHash } from "node:crypto"
import { closeSync, openSync } from "node:fs"
import type { Network as NetworkLimits } from "../../schema/container.ts"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { PRIVATE_NETWORKS } from "../../schema/private-networks.ts"
import { ReadyPool } from "../ready-pool.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { LiveNetwork, Network, NetworkDescription, NetworkPool } from "../runtime/ports.ts"
import type { AddressRange } from "./addresses.ts"
import * as addresses from "./addresses.ts"
import type { Span } from "./egress.ts"
import { spanOf, whollyClosed } from "./egress.ts"
import type { Element } from "./elements.ts"
import { elementsOf } from "./elements.ts"
import { PacketFilter } from "./filter.ts"
import * as host from "./host.ts"
import { egressOf, elementsNaming } from "./in-force.ts"
import { Links } from "./links.ts"
import { NameServer } from "./name-server.ts"
import { NamespaceMaker } from "./namespaces.ts"
import { DEFAULT_NAMESERVERS, DEFAULT_RANGE, DEFAULT_SIZE } from "./pool-options.ts"
import type { PoolOptions } from "./pool-options.ts"
import { Residents } from "./residents.ts"
import { shapeOf } from "./shape.ts"

/** A namespace by its descriptor; its slot is null with loopback only. */
interface Held {
  readonly fd: number
  slot: number | null
}

/** A run's network. `limits` are in force, or were to be when a bridge died. */
interface Taken extends Held {
  readonly tenantId: TenantId
  readonly names: readonly string[]
  limits: NetworkLimits
  /** Whether its link may have a rate. */
  shaped: boolean
}

export class NamespacePool implements NetworkPool {
  readonly #mtu: number
  readonly #range: AddressRange
  readonly #closedSpans: readonly Span[]
  readonly #maker: NamespaceMaker
  readonly #links: Links
  readonly #filter: PacketFilter
  readonly #names: NameServer
  readonly #residents: Residents
  readonly #ready: ReadyPool<Held>
  readonly #taken = new Map<RunId, Taken>()
  readonly #warn: (message: string) => void
  #recovered = false
  #closed = false
  /** What was changed on the host besides our own table, for the log. */
  readonly notes: string[] = []

  private constructor(options: PoolOptions, range: AddressRange, closed: readonly string[], parts: Parts) {
    this.#warn = options.warn ?? (() => {})
    this.#mtu = host.uplinkMtu()
    this.#range = range
    this.#closedSpans = closed.map(spanOf)
    this.#maker = parts.maker
    this.#residents = parts.residents
    this.#names = parts.names
    const instance = createHash("sha256").update(options.stateDir).digest("hex")
    const closedNetworks = options.closedNetworks ?? []
    this.#links = new Links(parts.maker, { instance, range, mtu: this.#mtu })
    this.#ready = new ReadyPool(
      options.size ?? DEFAULT_SIZE,
      () => this.#links.make(),
      () => this.refill(),
    )
    this.#filter = new PacketFilter({ instance, range, closedNetworks, namePort: parts.names.port })
  }

  /** Makes ready what all networks share; `recover` puts the rules in force. Throws a sentence for the operator. */
  static async open(options: PoolOptions): Promise<NamespacePool> {
    const range = addresses.parseRange(options.range ?? DEFAULT_RANGE)
    host.refuseOverlap(range)
    const closed = [...PRIVATE_NETWORKS, ...(options.closedNetworks ?? [])]
    const residents = new Residents()
    const names = await NameServer.open({
      residents,
      closed: closed.map(spanOf),
      upstreams: () => options.nameservers ?? host.nameserversOf(options.fallbackNameservers ?? DEFAULT_NAMESERVERS),
      portSeed: createHash("sha256").update(options.stateDir).digest().readUInt32BE(),
    })
    const pool = new NamespacePool(options, range, closed, { maker: new NamespaceMaker(), residents, names })
    pool.notes.push(...(await host.letThrough(range)))
    return pool
  }

  async take(runId: RunId, tenantId: TenantId, limits: NetworkLimits, names: readonly string[]): Promise<Network> {
    if (this.#closed || !this.#recovered) throw new Error("the network pool is not open")
    this.#refuseClosed(limits)
    let taken = this.#taken.get(runId)
    if (taken === undefined) {
      const lone = limits.egress === "none"
      const held = lone ? { fd: this.#maker.loopbackOnly(), slot: null } : (this.#ready.take() ?? this.#links.make())
      taken = { ...held, tenantId, names, limits, shaped: false }
      this.#taken.set(runId, taken)
      try {
        await this.#enforce(runId, taken)
      } catch (error) {
        await this.release(runId)
        throw error
      }
    }
    return {
      netnsPath: `/proc/${process.pid}/fd/${taken.fd}`,
      address: this.#addressOf(taken),
      nameservers: [addresses.gatewayOf(this.#range)],
    }
  }

  async setLimits(runId: RunId, limits: NetworkLimits): Promise<string | null> {
    const taken = this.#taken.get(runId)
    if (taken === undefined) return null
    taken.limits = limits
    await this.#enforce(runId, taken)
    return this.#addressOf(taken)
  }

  async describe(runId: RunId): Promise<NetworkDescription | null> {
    const taken = this.#taken.get(runId)
    if (taken === undefined) return null
    const address = this.#addressOf(taken)
    if (taken.slot === null || address === null)
      return { egress: "none", egress_bytes_per_second: null, ingress_bytes_per_second: null, rules: [] }
    const elements = elementsNaming(address, await this.#filter.list())
    const rates = await this.#links.rates(taken.fd, taken.slot)
    return {
      egress: egressOf(elements),
      egress_bytes_per_second: rates.egress,
      ingress_bytes_per_second: rates.ingress,
      rules: elements.map(({ set, text }) => `${set} { ${text} }`),
    }
  }

  async release(runId: RunId): Promise<void> {
    const taken = this.#taken.get(runId)
    if (taken === undefined) return
    this.#residents.remove(runId)
    await this.#filter.set(runId, []) // while that fails, nobody else gets an address that the kernel may still let through
    if (this.#taken.delete(runId)) this.#let(taken)
  }

  async recover(live: readonly LiveNetwork[]): Promise<void> {
    for (const { runId, tenantId, network: limits, names, address, pid } of live) {
      if (this.#taken.has(runId)) continue
      try {
        const fd = openSync(`/proc/${pid}/ns/net`, "r")
        const slot = address === null ? null : this.#links.adopt(address)
        const taken = { fd, slot, tenantId, names, limits, shaped: true }
        this.#taken.set(runId, taken)
        if (limits.egress !== "none") this.#filter.expect(runId, this.#elements(runId, taken))
      } catch {
        // It ended meanwhile: its namespace goes by itself, and its link with the ones below if that is slow.
      }
    }
    await this.#filter.load()
    this.#recovered = true
    await this.#links.clearOthers()
    // Names and rates; and what the bridge before had written down but not done.
    for (const [runId, taken] of this.#taken) {
      await this.#enforce(runId, taken).catch((error: unknown) => {
        // Its process ended just now, most likely. Until its release it stays as the rules have it, which is no wider.
        this.#warn(`the network of ${runId} could not be taken over as it was: ${String(error)}`)
      })
    }
  }

  async refill(): Promise<void> {
    if (await this.#filter.restore()) this.#warn("the packet filter's table had been taken away: it is back")
    await this.#ready.refill()
  }

  /** With no container left, the table goes too; otherwise it stays, for it is what confines them. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const held of await this.#ready.close()) this.#let(held)
    await this.#links.settled()
    const alone = this.#taken.size === 0
    for (const taken of this.#taken.values()) closeSync(taken.fd)
    this.#taken.clear()
    if (alone && this.#links.names().length === 0) {
      await this.#filter.drop()
      await host.dockerAccepts(this.#range, false)
    }
    await this.#names.close()
    this.#filter.close()
    this.#maker.close()
  }

  #addressOf({ slot }: Held): string | null {
    return slot === null ? null : this.#links.addressOf(slot)
  }

  #refuseClosed({ egress }: NetworkLimits): void {
    const [first] = whollyClosed(egress, this.#closedSpans)
    if (first === undefined) return
    throw new ControllerError("egress_closed", `No container may reach ${first}: this platform closes it to all of them.`)
  }

  #elements(runId: RunId, { slot, tenantId, limits }: Taken): readonly Element[] {
    if (slot === null) return []
    const address = this.#links.addressOf(slot)
    return elementsOf({ address, tenant: this.#residents.numberOf(tenantId), run: markOf(runId), egress: limits.egress })
  }

  /** Makes the host agree with a run's limits, from whatever it was; again is nothing. */
  async #enforce(runId: RunId, taken: Taken): Promise<void> {
    const { limits, tenantId, names } = taken
    if (limits.egress === "none") {
      this.#residents.remove(runId)
      await this.#filter.set(runId, [])
      if (taken.slot !== null) this.#links.detach(taken.slot)
      taken.slot = null
      return
    }
    taken.slot ??= this.#links.attach(taken.fd)
    this.#shape(taken, taken.slot)
    const address = this.#links.addressOf(taken.slot)
    this.#residents.add({ runId, tenantId, address, names, egress: limits.egress })
    await this.#filter.set(runId, this.#elements(runId, taken))
  }

  #shape(taken: Taken, slot: number): void {
    const { egress_bytes_per_second: out, ingress_bytes_per_second: into } = taken.limits
    const limited = out !== undefined || into !== undefined
    if (!limited && !taken.shaped) return
    const shape = (rate: number | undefined) => (rate === undefined ? null : shapeOf(rate, this.#mtu))
    this.#links.shape(taken.fd, slot, { ingress: shape(into), egress: shape(out) })
    taken.shaped = limited
  }

  #let({ fd, slot }: Held): void {
    closeSync(fd)
    if (slot !== null) this.#links.leave(slot)
  }
}

interface Parts {
  readonly maker: NamespaceMaker
  readonly residents: Residents
  readonly names: NameServer
}

/** A run's connections carry this; the same after a restart, so that they go on. */
const markOf = (runId: RunId) => createHash("sha256").update(runId).digest().readUInt32LE()
