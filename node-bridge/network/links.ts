/**
 * The links of one bridge's containers and the slots of its range, one each. What the host knows is the truth: a link of ours
 * is a slot in use, whoever made it.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import { SystemCallError } from "../native/libc.ts"
import { ControllerError } from "../runtime/controller.ts"
import { exec } from "../runtime/exec.ts"
import * as addresses from "./addresses.ts"
import type { AddressRange } from "./addresses.ts"
import { rateOf } from "./in-force.ts"
import { INSIDE_NAME } from "./namespaces.ts"
import type { NamespaceMaker, Pair, Shapes } from "./namespaces.ts"

/** A closed namespace's link is gone in well under a second; one that stays longer is deleted. */
const LINK_GONE_MS = 3_000
/** After a restart: what the dead process held is gone by then, and the rest is held by processes that nobody wants. */
const LEFTOVER_GONE_MS = 200
const LINK_POLL_MS = 20
const LINKS = "/sys/class/net"
const TOOL_TIMEOUT_MS = 10_000

export interface LinkOptions {
  readonly instance: string
  readonly range: AddressRange
  readonly mtu: number
}

export class Links {
  readonly #maker: NamespaceMaker
  readonly #options: LinkOptions
  /** With the index of the link that was made for it: names come back, indexes do not. */
  readonly #slots = new Map<number, string | null>()
  readonly #leaving = new Set<Promise<void>>()
  #lastSlot: number | null = null

  constructor(maker: NamespaceMaker, options: LinkOptions) {
    this.#maker = maker
    this.#options = options
  }

  addressOf = (slot: number) => addresses.addressOf(this.#options.range, slot)
  nameOf = (slot: number) => addresses.linkName(this.#options.instance, slot)

  /** A new namespace with a link. */
  make(): { readonly fd: number; readonly slot: number } {
    return this.#withSlot((pair, slot) => ({ fd: this.#maker.routed(pair), slot }))
  }

  /** Gives a namespace with loopback only a link. */
  attach(netns: number): number {
    return this.#withSlot((pair, slot) => {
      this.#maker.attach(netns, pair)
      return slot
    })
  }

  /** Takes a link away from a namespace that stays: some 20 ms of this thread. */
  detach(slot: number): void {
    this.#maker.deleteLink(this.nameOf(slot))
    this.#slots.delete(slot)
  }

  shape(netns: number, slot: number, shapes: Shapes): void {
    this.#maker.shape(netns, this.nameOf(slot), shapes)
  }

  /** What its queues say, in bytes per second; null without a limit. */
  async rates(netns: number, slot: number): Promise<{ readonly ingress: number | null; readonly egress: number | null }> {
    const shown = ["-j", "qdisc", "show", "dev"]
    const near = await tool("tc", ...shown, this.nameOf(slot))
    const far = await tool("nsenter", `--net=/proc/${process.pid}/fd/${netns}`, "tc", ...shown, INSIDE_NAME)
    return { ingress: rateOf(near), egress: rateOf(far) }
  }

  /** The slot of a link that another bridge made; null when there is no such link, or the address is not of this range. */
  adopt(address: string): number | null {
    const slot = addresses.slotOf(this.#options.range, address)
    const index = slot === null ? null : indexOf(this.nameOf(slot))
    if (slot === null || index === null) return null
    this.#slots.set(slot, index)
    return slot
  }

  /** The namespace of this slot was closed: its address is free once the kernel has taken the link down, some 50 ms later. */
  leave(slot: number): void {
    const leaving = this.#awaitSlot(slot).finally(() => this.#leaving.delete(leaving))
    this.#leaving.add(leaving)
  }

  /** When all that left has gone. */
  async settled(): Promise<void> {
    await Promise.all(this.#leaving)
  }

  /** All links of this bridge that the host has. */
  names(): string[] {
    const prefix = addresses.linkPrefix(this.#options.instance)
    return readdirSync(LINKS).filter((name) => name.startsWith(prefix))
  }

  /** Clears links that nobody here knows: a dead bridge's. */
  async clearOthers(): Promise<void> {
    const inUse = new Set([...this.#slots.keys()].map((slot) => this.nameOf(slot)))
    const others = this.names().filter((name) => !inUse.has(name))
    await Promise.all(others.map((name) => this.#linkGone(name, indexOf(name), LEFTOVER_GONE_MS)))
  }

  #withSlot<T>(make: (pair: Pair, slot: number) => T): T {
    const { range, mtu } = this.#options
    for (let tries = 0; tries < addresses.slotCount(range); tries++) {
      const slot = addresses.nextSlot(range, this.#slots, this.#lastSlot)
      if (slot === null) break
      this.#lastSlot = slot
      const gateway = addresses.gatewayOf(range)
      try {
        const made = make({ linkName: this.nameOf(slot), address: this.addressOf(slot), gateway, mtu }, slot)
        this.#slots.set(slot, indexOf(this.nameOf(slot)))
        return made
      } catch (error) {
        // Somebody has this slot: a container we were not told of, or another bridge with the same range. Pass by.
        if (!(error instanceof SystemCallError && error.code === "EEXIST")) throw error
      }
    }
    throw new ControllerError("network_exhausted", "The node has no network address left for another container.", {
      retryable: true,
    })
  }

  async #awaitSlot(slot: number): Promise<void> {
    try {
      await this.#linkGone(this.nameOf(slot), this.#slots.get(slot) ?? null, LINK_GONE_MS)
      this.#slots.delete(slot)
    } catch {
      // The kernel keeps the link: so the slot stays taken, and the next start tries again.
    }
  }

  /** A link that has the name but is another one by now is no business of ours. */
  async #linkGone(name: string, index: string | null, withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs
    // One that is being taken down has a name still, and no index.
    const isThere = () => existsSync(`${LINKS}/${name}`) && (indexOf(name) ?? index) === index
    while (isThere()) {
      if (performance.now() > deadline) return void this.#maker.deleteLink(name)
      await delay(LINK_POLL_MS)
    }
  }
}

function indexOf(name: string): string | null {
  try {
    return readFileSync(`${LINKS}/${name}/ifindex`, "utf8")
  } catch {
    return null
  }
}

async function tool(file: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await exec(file, args, { timeoutMs: TOOL_TIMEOUT_MS })
  if (code !== 0) throw new Error(`${file}: ${stderr.trim().slice(0, 500)}`)
  return stdout
}
