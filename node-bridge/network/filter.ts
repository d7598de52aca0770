/**
 * The packet filter in the kernel, and what it must hold. The table is loaded by `nft` as a whole, in one transaction, at the
 * start of a bridge and when somebody else on the host took it away; elements of single runs change in-process.
 */
import type { RunId } from "../../schema/ids.ts"
import { exec } from "../runtime/exec.ts"
import type { Element } from "./elements.ts"
import { difference } from "./elements.ts"
import { dropTableOf, loadRules } from "./host.ts"
import { FilterSocket } from "./nfnetlink.ts"
import type { RuleOptions } from "./rules.ts"
import { ruleset, tableName } from "./rules.ts"

/** nft reads a table of a thousand containers in some 30 ms. */
const LIST_TIMEOUT_MS = 10_000
/** Some 300 bytes a container. */
const MAX_LIST_BYTES = 64 * 1024 * 1024

export class PacketFilter {
  readonly #options: Omit<RuleOptions, "elements">
  readonly #table: string
  readonly #socket = new FilterSocket()
  readonly #elements = new Map<RunId, readonly Element[]>()
  #version = 0
  /** The kernel's table could not be made anew, and may hold what is not held here any more. */
  #stale = false
  #loading: Promise<void> | null = null

  constructor(options: Omit<RuleOptions, "elements">) {
    this.#options = options
    this.#table = tableName(options.instance)
  }

  /** Makes the kernel's table say what is held here, all at once. */
  load(): Promise<void> {
    this.#version += 1
    this.#stale = true
    this.#loading ??= this.#load().finally(() => {
      this.#loading = null
    })
    return this.#loading
  }

  async #load(): Promise<void> {
    for (let loaded = -1; loaded !== this.#version;) {
      loaded = this.#version
      // oxlint-disable-next-line no-await-in-loop -- what changed while nft ran may be lost with the table before: once more
      await loadRules(ruleset({ ...this.#options, elements: [...this.#elements.values()].flat() }))
    }
    this.#stale = false
  }

  /** Loads the table if somebody took it away, as a reload of the host's own firewall does. True when it was gone. */
  async restore(): Promise<boolean> {
    if (this.#socket.hasTable(this.#table)) return false
    await this.load()
    return true
  }

  /** Puts what a run may do in force, in place of what it could before; nothing for a run that has ended. */
  async set(runId: RunId, elements: readonly Element[]): Promise<void> {
    const { gone, added } = difference(this.#elements.get(runId) ?? [], elements)
    if (elements.length === 0) this.#elements.delete(runId)
    else this.#elements.set(runId, elements)
    this.#version += 1
    try {
      if (!this.#stale) return this.#socket.change(this.#table, gone, added)
    } catch {
      // The table is gone, or holds what we do not know of: made anew, it says what is held here and nothing else.
    }
    await this.load()
  }

  /** Holds what a run may do without telling the kernel, for the next `load`. */
  expect(runId: RunId, elements: readonly Element[]): void {
    this.#elements.set(runId, elements)
  }

  /** The table as the kernel has it. */
  async list(): Promise<string> {
    const args = ["-n", "list", "table", "inet", this.#table]
    const { code, stdout, stderr } = await exec("nft", args, { timeoutMs: LIST_TIMEOUT_MS, maxOutputBytes: MAX_LIST_BYTES })
    if (code !== 0) throw new Error(`nft: ${stderr.trim().slice(0, 500)}`)
    return stdout
  }

  /** Takes the table away: nobody is left whom it confines. */
  async drop(): Promise<void> {
    await this.#loading
    await dropTableOf(this.#options.instance)
  }

  close(): void {
    this.#socket.close()
  }
}
