/**
 * Stands in for the package `ws` where a bridge runs beside the objects in workerd: the part of its WebSocket that a bridge's
 * connection uses, over a real socket to a real NodeObject. Between the two lies a wire that can be cut and can lose order.
 *
 * A cut wire keeps what was sent, as a network that is down does, and gives it over once it is mended, unless an end has given
 * up meanwhile. One frame twice, or two in the wrong order, no TCP would do; each must end the session or change nothing.
 */
import type { NodeId } from "../../../schema/ids.ts"

export type Direction = "up" | "down"

/** What becomes of a frame. */
export type Fate =
  | { readonly kind: "pass" | "twice" | "after_next" }
  | { readonly kind: "late"; readonly ms: number }
  | { readonly kind: "instead"; readonly text: string }

/** The world, as a wire needs it. */
export interface Network {
  /** The other end: a real socket, or the status of a refusal. Throws when there is no way. */
  dial(node: NodeId, protocols: readonly string[], wire: WebSocket): Promise<WebSocketEnd | number>
  fate(node: NodeId, direction: Direction, text: string): Fate
  isCut(node: NodeId): boolean
  after(ms: number, callback: () => void): void
  /** Something was carried. */
  moved(): void
}

type WebSocketEnd = NonNullable<Response["webSocket"]>
type Listener = (...args: never[]) => void

let network: Network | null = null

/** Which world bridges dial into from now on. */
export function enter(next: Network): void {
  network = next
}

const ABNORMAL = 1006

export class WebSocket {
  readonly #network: Network
  readonly #node: NodeId
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #waiting: Record<Direction, (string | Uint8Array)[]> = { up: [], down: [] }
  readonly #held: Record<Direction, (string | Uint8Array) | null> = { up: null, down: null }
  #end: WebSocketEnd | null = null
  #over = false
  /** The bridge's process is gone: it hears nothing any more. */
  #deaf = false
  #closing: { code: number; reason: string } | null = null

  constructor(url: string, protocols: readonly string[]) {
    if (network === null) throw new Error("there is no world to dial into")
    this.#network = network
    this.#node = new URL(url).hostname.split(".")[0] as NodeId
    void this.#dial(protocols)
  }

  on(event: string, listener: Listener): this {
    const listeners = this.#listeners.get(event) ?? new Set()
    this.#listeners.set(event, listeners.add(listener))
    return this
  }
  once(event: string, listener: Listener): this {
    return this.on(event, listener)
  }

  send(data: string | Uint8Array): void {
    if (!this.#over) this.#carry("up", data)
  }

  close(code: number, reason: string): void {
    this.#finish({ code, reason })
  }

  /** At once; the other end hears of it when the wire is whole. */
  terminate(): void {
    this.#finish({ code: ABNORMAL, reason: "" })
  }

  /** The process at this end was killed. */
  die(): void {
    this.#deaf = true
    this.#finish({ code: ABNORMAL, reason: "" })
  }

  /** The wire carries again. */
  mended(): void {
    for (const direction of ["up", "down"] as const) {
      for (const data of this.#waiting[direction].splice(0)) this.#give(direction, data)
    }
    this.#hangUp()
  }

  async #dial(protocols: readonly string[]): Promise<void> {
    try {
      const end = await this.#network.dial(this.#node, protocols, this)
      this.#network.moved()
      if (this.#over) return typeof end === "number" ? undefined : closeEnd(end, 1001, "")
      if (typeof end === "number") {
        const nothing = { destroy() {} }
        this.#emit("unexpected-response", nothing, { statusCode: end, ...nothing })
        return this.#finish({ code: ABNORMAL, reason: "" })
      }
      this.#end = end
      end.addEventListener("message", ({ data }) => this.#carry("down", typeof data === "string" ? data : new Uint8Array(data)))
      end.addEventListener("close", ({ code, reason }) => this.#ended(code, reason))
      end.accept()
      this.#emit("open")
    } catch (error) {
      this.#emit("error", error instanceof Error ? error : new Error(String(error)))
      this.#finish({ code: ABNORMAL, reason: "" })
    }
  }

  #carry(direction: Direction, data: string | Uint8Array): void {
    this.#network.moved()
    const fate: Fate = typeof data === "string" ? this.#network.fate(this.#node, direction, data) : { kind: "pass" }
    switch (fate.kind) {
      case "pass":
        this.#give(direction, data)
        return this.#giveHeld(direction)
      case "twice":
        this.#give(direction, data)
        return this.#give(direction, data)
      case "instead":
        return this.#give(direction, fate.text)
      case "after_next":
        if (this.#held[direction] === null) this.#held[direction] = data
        else this.#give(direction, data)
        // Nothing may come after it.
        return this.#network.after(2_000, () => this.#giveHeld(direction))
      case "late":
        return this.#network.after(fate.ms, () => this.#give(direction, data))
    }
  }

  #giveHeld(direction: Direction): void {
    const held = this.#held[direction]
    this.#held[direction] = null
    if (held !== null) this.#give(direction, held)
  }

  #give(direction: Direction, data: string | Uint8Array): void {
    if (this.#over) return
    if (this.#network.isCut(this.#node)) return void this.#waiting[direction].push(data)
    this.#network.moved()
    if (direction === "up") sendTo(this.#end, data)
    else this.#emit("message", Buffer.from(data as string), typeof data !== "string")
  }

  /** The other end closed. A wire that is cut does not tell. */
  #ended(code: number, reason: string): void {
    this.#network.moved()
    if (this.#network.isCut(this.#node)) {
      this.#closing = { code, reason }
      return
    }
    closeEnd(this.#end, code === 1005 || code === ABNORMAL ? 1000 : code, "")
    this.#end = null
    this.#tell({ code, reason })
  }

  #finish(how: { code: number; reason: string }): void {
    this.#tell(how)
    this.#closing = how
    this.#hangUp()
  }

  #hangUp(): void {
    const closing = this.#closing
    if (closing === null || this.#network.isCut(this.#node)) return
    this.#closing = null
    closeEnd(this.#end, closing.code === ABNORMAL || closing.code < 1000 ? 1001 : closing.code, "")
    this.#end = null
    this.#tell(closing)
  }

  #tell({ code, reason }: { code: number; reason: string }): void {
    if (this.#over) return
    this.#over = true
    // A listener may be added by whoever has just called.
    queueMicrotask(() => this.#emit("close", code, Buffer.from(reason)))
  }

  #emit(event: string, ...args: unknown[]): void {
    if (this.#deaf) return
    for (const listener of this.#listeners.get(event) ?? []) listener(...(args as never[]))
  }
}

function sendTo(end: WebSocketEnd | null, data: string | Uint8Array): void {
  try {
    end?.send(data)
  } catch {
    // It closed under us; its close event tells the bridge.
  }
}

function closeEnd(end: WebSocketEnd | null, code: number, reason: string): void {
  try {
    end?.close(code, reason)
  } catch {
    // closed already
  }
}
