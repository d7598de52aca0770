/**
 * A small region: real objects in workerd, real bridges over fake controllers, wires between them, one clock, and faults that a
 * seed decides. Time passes in ticks; between two of them the world is let come to rest, so that a tick's outcome hangs on the
 * seed as far as workerd lets it: the order of commits and of socket events within a tick is workerd's own.
 */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test"
import { vi } from "vitest"
import { LEASE_DRIFT_SHARE } from "../../../node-bridge/agent/lease.ts"
import { Sockets } from "../../../durable/node/sockets.ts"
import { CELL_ID_HEADER, NODE_ASSERTION_HEADER, NODE_ID_HEADER } from "../../../durable/shared/rpc.ts"
import { Policy, type Quota } from "../../../schema/api.ts"
import { type CellId, formatId, type IdOf, type IdPrefix, type NodeId, type RunId, type TenantId } from "../../../schema/ids.ts"
import type { Capacity } from "../../../schema/node.ts"
import { PROTOCOL_VERSION, SUBPROTOCOL } from "../../../schema/protocol.ts"
import { peers, stubs } from "../../support/control-plane.ts"
import { Recorder } from "../../support/history.ts"
import { watchBooks } from "./books.ts"
import { CALL_FAULTS, type CallFault, Calls, type Name } from "./calls.ts"
import { Dice } from "./dice.ts"
import { Host } from "./host.ts"
import { type Skew, VirtualTime } from "./virtual-time.ts"
import { type Direction, enter, type Fate, type WebSocket as Wire } from "./wire.ts"

/** How often what happens, as a probability: of each call, frame, alarm; of each host and object in each second. */
export interface Rates {
  readonly call: number
  readonly frame: number
  readonly alarm: number
  readonly eviction: number
  readonly abort: number
  readonly cut: number
  readonly bridgeKilled: number
  readonly hostRebooted: number
  readonly oldVersion: number
}
export const QUIET: Rates = {
  call: 0, frame: 0, alarm: 0, eviction: 0, abort: 0, cut: 0, bridgeKilled: 0, hostRebooted: 0, oldVersion: 0,
} // prettier-ignore

export interface WorldOptions {
  readonly seed: string
  readonly rates: Rates
  /** The most that a network stays cut, and a bridge down; milliseconds. */
  readonly longestMs: number
}

/** Turns of the event loop without a move after which nothing is on its way any more. */
const CALM_TURNS = 4
/** Real milliseconds after which a world that never comes to rest is let go on. */
const RESTLESS_MS = 10_000
/** Real milliseconds. */
const HELD_UP_MS = 100

/** Worlds so far: objects outlive theirs, so no two may give the same ids. */
let worlds = 0

const protocolOf = (version: number) => SUBPROTOCOL.replace(/\d+$/, String(version))

export class World {
  readonly time = new VirtualTime()
  readonly dice: Dice
  readonly recorder = new Recorder(() => this.time.now())
  readonly hosts = new Map<NodeId, Host>()
  /** How often each fault came. */
  readonly faults = new Map<string, number>()
  readonly tenants: TenantId[] = []
  readonly cells: CellId[] = []
  readonly tenantOfRun = new Map<RunId, TenantId>()
  rates: Rates
  restless = 0
  readonly #longestMs: number
  readonly #calls: Calls
  readonly #streams = new Map<string, Dice>()
  readonly #wires = new Map<NodeId, Set<Wire>>()
  readonly #cut = new Set<NodeId>()
  #ticks = 0
  readonly #doomed: Name[] = []
  readonly #lateAlarms = new Map<Name, number>()

  constructor({ seed, rates, longestMs }: WorldOptions) {
    this.#longestMs = longestMs
    this.dice = new Dice(seed)
    this.rates = QUIET
    const ids = this.dice.fork(`ids/${worlds++}`)
    vi.spyOn(crypto, "getRandomValues").mockImplementation((array) => {
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
      for (let i = 0; i < bytes.length; i++) bytes[i] = ids.between(0, 256)
      return array
    })
    // What objects say of calls that failed is what they are meant to say here, ten thousand times.
    vi.spyOn(console, "error").mockImplementation(() => {})
    const heartbeatMs = Sockets.prototype.heartbeatMs
    const time = this.time
    vi.spyOn(Sockets.prototype, "heartbeatMs").mockImplementation(function (this: Sockets) {
      const real = heartbeatMs.call(this)
      return real === null ? null : time.virtualAt(real)
    })
    watchBooks(this.recorder, (node) => this.#host(node).cellId)
    this.#calls = new Calls({
      fault: (method, callee) => this.#callFault(method, callee),
      late: () => {
        const until = this.time.now() + this.#stream("late").between(200, 5_000)
        return () => this.time.now() >= until
      },
      abort: (name) => {
        this.#doomed.push(name)
        return () => !this.#doomed.includes(name)
      },
      tenantOf: (run) => this.tenantOfRun.get(run),
    })
    enter({
      dial: (node, protocols, wire) => this.#dial(node, protocols, wire),
      fate: (node, direction, text) => this.#fate(node, direction, text),
      isCut: (node) => this.#cut.has(node),
      after: (ms, callback) => void this.time.after(ms, callback),
      moved: () => void (this.#calls.moves += 1),
    })
    this.rates = rates
  }

  id<P extends IdPrefix>(prefix: P): IdOf<P> {
    return formatId(prefix, this.time.now(), crypto.getRandomValues(new Uint8Array(10)))
  }

  addCell(): CellId {
    const id = this.id("cel")
    this.cells.push(id)
    this.#calls.call(stubs.cell(id).id, id)
    return id
  }

  async addTenant(quota: Quota): Promise<TenantId> {
    const id = this.id("ten")
    this.tenants.push(id)
    this.#calls.call(stubs.tenant(id).id, id)
    const policy = Policy.parse({})
    await peers.tenant(id).configure({ tenant_id: id, name: "t", quota, policy, revision: 1, cells: [...this.cells] })
    const { containers, cpus, memory_bytes } = quota
    this.recorder.add({ kind: "quota", tenant: id, containers, limit: { cpus, memory_bytes } })
    return id
  }

  async addHost(cellId: CellId, capacity: Capacity): Promise<Host> {
    const nodeId = this.id("nod")
    this.#calls.call(stubs.node(nodeId).id, nodeId)
    const { time, recorder } = this
    const dice = this.dice.fork(`host/${this.hosts.size}`)
    const skew: Skew = { offsetMs: dice.between(-120_000, 120_000), rate: 1 + LEASE_DRIFT_SHARE * (2 * dice.next() - 1) }
    const host = new Host({ nodeId, cellId, capacity, time, dice, recorder, skew })
    this.hosts.set(nodeId, host)
    await host.start()
    return host
  }

  /** Passes time, with what befalls hosts and objects in it, and lets the world come to rest. */
  async tick(ms: number): Promise<void> {
    await this.#befall(ms / 1000)
    this.time.advance(ms)
    await this.calm()
    this.#ticks += 1
    // A second late at most is not late for an alarm.
    if (this.#ticks % 2 === 0) return
    await this.#alarms()
    await this.calm()
  }

  async calm(): Promise<void> {
    const until = performance.now() + RESTLESS_MS
    for (let still = 0, seen = -1; still < CALM_TURNS;) {
      await scheduler.wait(0)
      await this.#bury()
      const { moves, busy } = this.#calls
      still = !busy && moves === seen ? still + 1 : 0
      seen = moves
      if (performance.now() > until) {
        this.restless += 1
        return
      }
    }
  }

  /** No more faults: what is cut is mended, what is down comes up. */
  async heal(): Promise<void> {
    this.rates = QUIET
    for (const node of this.#cut) this.#mend(node)
    for (const host of this.hosts.values()) if (!host.up && host.serves) await host.start()
  }

  readonly count = (kind: string): void => {
    this.faults.set(kind, (this.faults.get(kind) ?? 0) + 1)
  }

  end(): void {
    for (const host of this.hosts.values()) host.kill()
    vi.restoreAllMocks()
    this.time.end()
  }

  cut(node: NodeId): void {
    this.#cut.add(node)
  }
  /** Until it is mended by `mend`. */
  mend(node: NodeId): void {
    this.#mend(node)
  }
  isCut(node: NodeId): boolean {
    return this.#cut.has(node)
  }
  killBridge(node: NodeId): void {
    this.hosts.get(node)?.kill()
    for (const wire of this.#wires.get(node) ?? []) wire.die()
    this.#wires.delete(node)
  }
  rebootHost(node: NodeId): void {
    this.killBridge(node)
    this.hosts.get(node)?.reboot()
  }

  #stream(name: string): Dice {
    const known = this.#streams.get(name)
    if (known) return known
    const dice = this.dice.fork(name)
    this.#streams.set(name, dice)
    return dice
  }

  #callFault(method: string, callee: Name): CallFault | undefined {
    const dice = this.#stream(`call/${method}/${callee}`)
    if (!dice.chance(this.rates.call)) return undefined
    const fault = dice.pick(CALL_FAULTS)
    if (fault) this.count(fault)
    return fault
  }

  async #dial(node: NodeId, protocols: readonly string[], wire: Wire) {
    if (this.#cut.has(node)) throw new Error("there is no way to the platform")
    const wires = this.#wires.get(node) ?? new Set()
    this.#wires.set(node, wires.add(wire))
    const old = this.#stream(`dial/${node}`).chance(this.rates.oldVersion)
    if (old) this.count("old_bridge_refused")
    const response = await stubs.node(node).fetch("https://node.test/v1/nodes/connect", {
      headers: {
        upgrade: "websocket",
        "sec-websocket-protocol": old ? protocolOf(PROTOCOL_VERSION - 1) : protocols.join(", "),
        [NODE_ID_HEADER]: node,
        [CELL_ID_HEADER]: this.#host(node).cellId,
        [NODE_ASSERTION_HEADER]: `${this.id("req")} ${this.time.now() + 60_000}`,
      },
    })
    if (response.webSocket) return response.webSocket
    await response.text()
    return response.status
  }

  #fate(node: NodeId, direction: Direction, text: string): Fate {
    const dice = this.#stream(`frame/${node}/${direction}`)
    const versioned = text.startsWith('{"type":"hello"') || text.startsWith('{"type":"welcome"')
    if (versioned && dice.chance(this.rates.oldVersion)) {
      this.count(direction === "up" ? "old_bridge_greets" : "old_platform_greets")
      return { kind: "instead", text: text.replace(`"protocol":${PROTOCOL_VERSION}`, `"protocol":${PROTOCOL_VERSION - 1}`) }
    }
    if (!dice.chance(this.rates.frame)) return { kind: "pass" }
    const kind = dice.pick(["twice", "after_next", "late"] as const) ?? "late"
    this.count(`frame_${kind}`)
    return kind === "late" ? { kind, ms: dice.between(100, 8_000) } : { kind }
  }

  async #befall(seconds: number): Promise<void> {
    const dice = this.#stream("world")
    const { rates } = this
    for (const [node, host] of this.hosts) {
      if (!host.serves) continue
      if (!this.#cut.has(node) && dice.chance(rates.cut * seconds)) {
        this.count("network_cut")
        this.cut(node)
        this.time.after(dice.between(500, this.#longestMs), () => this.#mend(node))
      }
      if (host.up && dice.chance(rates.bridgeKilled * seconds)) {
        this.count("bridge_killed")
        this.killBridge(node)
        this.time.after(dice.between(500, this.#longestMs), () => void (host.up || host.start()))
      }
      if (host.up && dice.chance(rates.hostRebooted * seconds)) {
        this.count("host_rebooted")
        this.rebootHost(node)
        this.time.after(dice.between(500, this.#longestMs), () => void (host.up || host.start()))
      }
    }
    for (const name of this.#names()) {
      if (dice.chance(rates.eviction * seconds)) {
        const webSockets = dice.chance(0.3) ? "close" : "hibernate"
        this.count("object_evicted")
        await soon(evictDurableObject(this.#stub(name), { webSockets }))
      }
      if (dice.chance(rates.abort * seconds)) {
        this.count("object_aborted")
        await this.#abort(name)
      }
    }
  }

  #host(node: NodeId): Host {
    const host = this.hosts.get(node)
    if (host === undefined) throw new Error(`there is no host ${node}`)
    return host
  }

  #mend(node: NodeId): void {
    if (!this.#cut.delete(node)) return
    for (const wire of this.#wires.get(node) ?? []) wire.mended()
  }

  #names(): Name[] {
    return [...this.tenants, ...this.cells, ...this.hosts.keys()]
  }

  #stub(name: Name): DurableObjectStub {
    if (name.startsWith("ten_")) return stubs.tenant(name)
    return name.startsWith("cel_") ? stubs.cell(name) : stubs.node(name)
  }

  async #abort(name: Name): Promise<void> {
    const away = (_: object, state: DurableObjectState) => {
      this.#calls.gone(name)
      state.abort("chaos")
    }
    await soon(runInDurableObject(this.#stub(name), away))
  }

  /** Objects that a call is to find gone. */
  async #bury(): Promise<void> {
    for (let name = this.#doomed[0]; name !== undefined; name = this.#doomed[0]) {
      await this.#abort(name)
      this.#doomed.shift()
    }
  }

  /** Fires what is due, as the platform would; now and then late, or twice at once. */
  async #alarms(): Promise<void> {
    const fire = async (name: Name) => {
      const stub = this.#stub(name)
      const at = await soon(runInDurableObject(stub, (_, state) => state.storage.getAlarm()))
      const now = this.time.now()
      if (typeof at !== "number" || at > now || (this.#lateAlarms.get(name) ?? 0) > now) return
      const dice = this.#stream(`alarm/${name}`)
      if (dice.chance(this.rates.alarm)) {
        if (dice.chance(0.5)) {
          this.count("alarm_late")
          this.#lateAlarms.set(name, now + dice.between(1_000, 20_000))
          return
        }
        this.count("alarm_twice")
        await soon(runInDurableObject(stub, (object) => (object as { alarm(): Promise<void> }).alarm()))
      }
      await soon(runDurableObjectAlarm(stub))
    }
    for (const name of this.#names()) if (!name.startsWith("cel_")) await fire(name)
  }
}

/** What is held up by a late call goes on while time passes; nothing here waits for it. */
const soon = <T>(work: Promise<T>): Promise<T | void> => Promise.race([work.catch(() => {}), scheduler.wait(HELD_UP_MS)])
