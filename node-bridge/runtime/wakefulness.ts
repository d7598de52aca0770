/**
 * Keeps the host's processors from falling asleep while a container is started. A start is a chain of short waits, for a disk,
 * a child, a pipe; a processor that sleeps through each wakes late, on virtual machines by a tenth of a millisecond and more
 * (a create call took 27 ms for 34 with it). A processor that only waits yields to whatever has work at once, so the price
 * is power, for as long as starts go on.
 *
 * The kernel takes the wish back when the descriptor is closed: a bridge that dies leaves nothing. Only a saving: hosts
 * without the device start containers as ever. Source: Documentation/power/pm_qos_interface.rst, CPU latency.
 */
import { closeSync, openSync, writeSync } from "node:fs"

const DEVICE = "/dev/cpu_dma_latency"
/** A start and the report of it take some 20 ms; one that hangs must not keep a whole host awake. */
const AWAKE_MS = 30
/** In the kernel's form, a signed number of 32 bits, in microseconds: a processor may take no time at all to wake. */
const AT_ONCE = new Uint8Array(4)

export class Wakefulness {
  readonly #device: string
  #held: number | null = null
  #end: NodeJS.Timeout | null = null

  constructor(device: string = DEVICE) {
    this.#device = device
  }

  /** From now on for a moment, which begins anew with each call. Never fails. */
  stir(): void {
    if (this.#end !== null) {
      this.#end.refresh()
      return
    }
    try {
      this.#held = openSync(this.#device, "r+")
      writeSync(this.#held, AT_ONCE)
      this.#end = setTimeout(() => this.close(), AWAKE_MS).unref()
    } catch {
      this.close()
    }
  }

  close(): void {
    if (this.#end !== null) clearTimeout(this.#end)
    if (this.#held !== null) closeSync(this.#held)
    this.#end = null
    this.#held = null
  }
}
