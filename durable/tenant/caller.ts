/** What a caller's token lets it see and make. Pure. */
import type { ContainerSpec } from "../../schema/container.ts"
import { AppError } from "../../schema/errors.ts"
import type { Caller } from "../shared/rpc.ts"
import type { ContainerRow } from "./rows.ts"
import { faultsOf, isAbout } from "./selectors.ts"

/** Rows that one page may look at for a token that sees few of them; a page may then have fewer items, and a cursor to go on. */
const MAX_SCANNED = 10_000

export const sees = ({ details }: Caller, { id, name, spec, image_digest }: ContainerRow): boolean =>
  isAbout(details, { id, name, spec, digest: image_digest })

/** @throws AppError `forbidden`, with each field of the container that the caller's token does not let it have. */
export function refuseBeyond({ details }: Caller, create: ContainerSpec & { name?: string }, at = ""): void {
  const errors = faultsOf(details, create.name ?? null, create).map(({ pointer, message }) => ({
    pointer: at + pointer,
    message,
  }))
  const [first] = errors
  if (first) throw new AppError("forbidden", `Your token cannot create this: ${first.pointer} ${first.message}.`, { errors })
}

export interface Listing<Row, Place> {
  /** The first `limit` rows after a place, in their order; null: from the beginning. */
  read(after: Place | null, limit: number): Row[]
  place(row: Row): Place
  sees(row: Row): boolean
}

/** A page of what the caller may see. `next` is where to go on, or null at the end. */
export function pageOf<Row, Place>(
  { details }: Caller,
  { cursor, limit }: { readonly cursor: Place | null; readonly limit: number },
  listing: Listing<Row, Place>,
): { rows: Row[]; next: Place | null } {
  const rows: Row[] = []
  let after = cursor
  for (let scanned = 0; ;) {
    const read = listing.read(after, limit + 1)
    for (const row of read.slice(0, limit)) {
      if (details === null || listing.sees(row)) rows.push(row)
      after = listing.place(row)
      scanned++
      if (rows.length === limit) break
    }
    const isEnd = read.length <= limit && (read.length === 0 || after === listing.place(read[read.length - 1] as Row))
    if (isEnd) return { rows, next: null }
    if (rows.length >= limit || scanned >= MAX_SCANNED) return { rows, next: after }
  }
}
