/**
 * Which host ids stand for a tenant's: one range of 65,536 for every tenant that ever had a container here, kept on disk. A
 * range is never given to a second tenant while it is in the file, for files of the first may still carry its numbers.
 *
 * A crash between choosing and writing leaves the old file: the tenant is then given a range again, and nobody saw the first.
 */
import { mkdir, open, readFile, rename } from "node:fs/promises"
import { dirname } from "node:path"
import { z } from "zod"
import { TenantId } from "../../schema/ids.ts"
import type { IdRange, IdRanges } from "../runtime/ports.ts"
import { ControllerError } from "../runtime/controller.ts"

export const IDS_PER_TENANT = 65_536
/**
 * The stretch that systemd's table of uids (systemd.io/UIDS-GIDS) leaves to nobody: above what nspawn and subuid files use,
 * below the ids that are negative to old programs. Its last two ranges are left out, for systemd has plans there.
 */
export const FIRST_HOST_ID = 0x7000_0000
export const MAX_TENANTS = 4_094

const Table = z.strictObject({ version: z.literal(1), first_host_id: z.int(), ranges: z.record(TenantId, z.int()) })
export type Table = z.infer<typeof Table>

/** The tenant's place in the table, and the table with it; null when all ranges are taken. */
export function allot(table: Table, tenantId: TenantId): { readonly index: number; readonly table: Table } | null {
  const known = table.ranges[tenantId]
  if (known !== undefined) return { index: known, table }
  const taken = new Set(Object.values(table.ranges))
  let index = 0
  while (taken.has(index)) index++
  if (index >= MAX_TENANTS) return null
  return { index, table: { ...table, ranges: { ...table.ranges, [tenantId]: index } } }
}

/** Lines of /etc/subuid or /etc/subgid that claim ids of ours: `name:first:count`. */
export function claimedByOthers(subordinateIds: string, firstHostId: number): string[] {
  const end = firstHostId + MAX_TENANTS * IDS_PER_TENANT
  return subordinateIds.split("\n").filter((line) => {
    const [, first, count] = line.split(":").map(Number)
    return first !== undefined && count !== undefined && first < end && first + count > firstHostId
  })
}

export class StoredIdRanges implements IdRanges {
  readonly #file: string
  #table: Table
  /** Allotments one after another: each writes the whole file. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor(file: string, table: Table) {
    this.#file = file
    this.#table = table
  }

  /** Throws a sentence for the operator when the ids are claimed by others or the file cannot be read. */
  static async open(file: string, firstHostId = FIRST_HOST_ID): Promise<StoredIdRanges> {
    for (const others of ["/etc/subuid", "/etc/subgid"]) {
      const [claim] = claimedByOthers(await readOrEmpty(others), firstHostId)
      if (claim !== undefined) throw new Error(`${others} gives ids of the containers' range to others: ${claim}`)
    }
    const text = await readOrEmpty(file)
    const table: Table = text === "" ? { version: 1, first_host_id: firstHostId, ranges: {} } : parse(text, file)
    // The file's own first id counts: ranges that were given out stay where they are.
    return new StoredIdRanges(file, table)
  }

  rangeOf(tenantId: TenantId): Promise<IdRange> {
    const known = this.#table.ranges[tenantId]
    if (known !== undefined) return Promise.resolve(this.#range(known))
    const next = this.#last.then(() => this.#allot(tenantId))
    this.#last = next.catch(() => {})
    return next
  }

  #range(index: number): IdRange {
    return { hostBase: this.#table.first_host_id + index * IDS_PER_TENANT, size: IDS_PER_TENANT }
  }

  async #allot(tenantId: TenantId): Promise<IdRange> {
    const allotted = allot(this.#table, tenantId)
    if (allotted === null) throw new ControllerError("tenants_exhausted", "The node has no id range left for another tenant.")
    if (allotted.table !== this.#table) await writeDurably(this.#file, `${JSON.stringify(allotted.table)}\n`)
    this.#table = allotted.table
    return this.#range(allotted.index)
  }
}

function parse(text: string, file: string): Table {
  try {
    return Table.parse(JSON.parse(text))
  } catch (cause) {
    // Never begin a new one over it: tenants would get each other's files.
    throw new Error(`${file} holds the tenants' id ranges and cannot be read`, { cause })
  }
}

async function readOrEmpty(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8")
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return ""
    throw error
  }
}

/** Whole or not at all, and on disk before it is believed. */
async function writeDurably(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const temporary = `${file}.new`
  const handle = await open(temporary, "w", 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, file)
  const directory = await open(dirname(file), "r")
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
