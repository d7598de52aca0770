/**
 * When the lease was last renewed, for the next bridge, and when it ends, for whoever stands in for this one
 * (`runtime/lease-guard.sh`): one short line, written over the one before. Never synced: what a crash
 * of the machine takes is of no use after it. In place and always of one length, so that a full disk refuses nothing but the
 * first.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs"
import type { LeaseMemory, Renewal } from "./lease.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"

const LENGTH = 120

export class LeaseFile implements LeaseMemory {
  readonly last: Renewal | null
  readonly #path: string
  readonly #bootId: string
  readonly #log: Log

  constructor(path: string, bootId: string, log: Log) {
    this.#path = path
    this.#bootId = bootId
    this.#log = log
    this.last = read(path, bootId)
  }

  keep({ renewedAt, killAt }: Renewal): void {
    const line = `${this.#bootId} ${Math.floor(renewedAt)} ${Math.floor(killAt)}`
    try {
      const fd = openSync(this.#path, constants.O_WRONLY | constants.O_CREAT, 0o600)
      try {
        writeSync(fd, `${line.padEnd(LENGTH - 1)}\n`, 0)
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      this.#log.warn("could not keep the lease", { error: explain(error) })
    }
  }
}

function read(path: string, bootId: string): Renewal | null {
  try {
    const [boot, ...times] = readFileSync(path, "utf8").trim().split(" ")
    const [renewedAt, killAt] = times.map(Number)
    const known = boot === bootId && Number.isFinite(renewedAt) && Number.isFinite(killAt)
    return known && renewedAt !== undefined && killAt !== undefined ? { renewedAt, killAt } : null
  } catch {
    return null
  }
}
