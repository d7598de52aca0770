/** Operators at work on the nodes: they cordon, empty and forget them, lend them to one tenant and move them between cells. */
import { peers } from "../../support/control-plane.ts"
import { asAppError } from "../../../schema/errors.ts"
import type { CellId, NodeId } from "../../../schema/ids.ts"
import type { Dice } from "./dice.ts"
import type { World } from "./world.ts"

/** Of each second. */
export interface OperatorRates {
  readonly cordon: number
  readonly drain: number
  readonly lend: number
  readonly move: number
  readonly forget: number
}

const AGAIN_MS = 1_000
/** A node that will not be empty by then is taken back into service. */
const LONGEST_MS = 60_000

export class Operators {
  readonly #world: World
  readonly #dice: Dice
  readonly #rates: OperatorRates
  /** Nodes that somebody has in hand. */
  readonly #taken = new Set<NodeId>()
  readonly #replace: (cell: CellId) => Promise<unknown>

  constructor(world: World, rates: OperatorRates, replace: (cell: CellId) => Promise<unknown>) {
    this.#world = world
    this.#dice = world.dice.fork("operators")
    this.#rates = rates
    this.#replace = replace
  }

  get busy(): number {
    return this.#taken.size
  }

  work(seconds: number): void {
    const deeds = ["cordon", "drain", "lend", "move", "forget"] as const
    for (const deed of deeds) {
      if (!this.#dice.chance(this.#rates[deed] * seconds)) continue
      const free = [...this.#world.hosts.values()].filter((host) => host.serves && !this.#taken.has(host.nodeId))
      const host = this.#dice.pick(free)
      // Most nodes stay in service.
      if (host === undefined || free.length < this.#world.hosts.size / 2) continue
      this.#world.count(`operator_${deed}`)
      this.#taken.add(host.nodeId)
      void this.#do(deed, host.nodeId).finally(() => this.#taken.delete(host.nodeId))
    }
  }

  async #do(deed: keyof OperatorRates, node: NodeId): Promise<void> {
    const { time, hosts, tenants, cells } = this.#world
    const host = hosts.get(node)
    if (host === undefined) return
    // Asked for anew each time: a stub of an object that was thrown away stays broken.
    const object = () => peers.node(node)
    switch (deed) {
      case "cordon":
        await this.#until(() => object().cordon("looked at"))
        await this.#pass(this.#dice.between(2_000, 20_000))
        return this.#until(() => object().uncordon())
      case "drain":
        await this.#empty(node)
        return this.#until(() => object().uncordon())
      case "lend": {
        const tenant = this.#dice.pick(tenants)
        if (tenant !== undefined) await this.#until(() => object().setExclusive([tenant]))
        await this.#pass(this.#dice.between(5_000, 30_000))
        return this.#until(() => object().setExclusive(null))
      }
      case "move": {
        const to = cells.find((cell) => cell !== host.cellId)
        if ((await this.#empty(node)) && to !== undefined) {
          await this.#until(() => object().moveTo(to))
          host.cellId = to
        }
        return this.#until(() => object().uncordon())
      }
      case "forget":
        // What runs there would run on unseen until the node hears of it.
        if (!host.up || this.#world.isCut(node)) return
        host.forgotten = true
        await this.#until(() => object().forget())
        await this.#pass(time.now() % 5_000)
        await this.#replace(host.cellId)
    }
  }

  /** Whether it came to be empty in time. */
  async #empty(node: NodeId): Promise<boolean> {
    const { time } = this.#world
    const until = time.now() + LONGEST_MS
    await this.#until(() => peers.node(node).drain(time.now() + this.#dice.between(0, 30_000)))
    for (;;) {
      await this.#pass(2_000)
      let left = Number.POSITIVE_INFINITY
      await this.#until(async () => {
        left = (await peers.node(node).status()).drain?.runs_left ?? 0
      })
      if (left === 0) return true
      if (time.now() >= until) return false
    }
  }

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => this.#world.time.after(ms, resolve))
  }

  /** Makes the call again until it is answered, or refused. */
  async #until(call: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await call()
      } catch (error) {
        if (asAppError(error)?.code === "action_not_allowed") return
        await this.#pass(AGAIN_MS)
      }
    }
  }
}
