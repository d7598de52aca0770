/**
 * Which host ids stand for a tenant's: one range of 65,536 for every tenant that ever had a container here, kept on disk.
 *
 * A range goes to a second tenant only when every other is taken and nothing of the first was on this host when the bridge
 * started, nor came since: files that carry its numbers would be the second's. A tenant that comes back then gets another.
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

/** Of whom anything is, or may be, on this host; null: that cannot be said, and it may be anybody's. */
export type Remaining = ReadonlySet<TenantId> | null

/** The tenant's place in the table, and the table with it; null when all ranges are taken by tenants that remain. */
export function allot(
  table: Table,
  tenantId: TenantId,
  remaining: Remaining,
): { readonly index: number; readonly table: Table } | null {
  const known = table.ranges[tenantId]
  if (known !== undefined) return { index: known, table }
  const taken = new Set(Object.values(table.ranges))
  let index = 0
  while (taken.has(index)) index++
  if (index < MAX_TENANTS) return { index, table: { ...table, ranges: { ...table.ranges, [tenantId]: index } } }
  if (remaining === null) return null
  // In the order in which they came.
  const gone = Object.entries(table.ranges).find(([tenant]) => !remaining.has(tenant as TenantId))
  if (gone === undefined) return null
  const kept = Object.entries(table.ranges).filter(([tenant]) => tenant !== gone[0])
  return { index: gone[1], table: { ...table, ranges: { ...Object.fromEntries(kept), [tenantId]: gone[1] } } }
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
  /** Those who remained when this process started, and all who asked it since. */
  readonly #remaining: Set<TenantId> | null
  /** Allotments one after another: each writes the whole file. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor(file: string, table: Table, remaining: Remaining) {
    this.#file = file
    this.#table = table
    this.#remaining = remaining === null ? null : new Set(remaining)
  }

  /** Throws a sentence for the operator when the ids are claimed by others or the file cannot be read. */
  static async open(file: string, remaining: Remaining, firstHostId = FIRST_HOST_ID): Promise<StoredIdRanges> {
    for (const others of ["/etc/subuid", "/etc/subgid"]) {
      const [claim] = claimedByOthers(await readOrEmpty(others), firstHostId)
      if (claim !== undefined) throw new Error(`${others} gives ids of the containers' range to others: ${claim}`)
    }
    const text = await readOrEmpty(file)
    const table: Table = text === "" ? { version: 1, first_host_id: firstHostId, ranges: {} } : parse(text, file)
    // The file's own first id counts: ranges that were given out stay where they are.
    return new StoredIdRanges(file, table, remaining)
  }

  rangeOf(tenantId: TenantId): Promise<IdRange> {
    this.#remaining?.add(tenantId)
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
    const allotted = allot(this.#table, tenantId, this.#remaining)
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
