/** Opaque cursors of the directory's lists: the last id of a page, encoded so that nobody builds one by hand. Pure. */
import type { Page } from "../schema/api.ts"
import { invalid } from "./validation.ts"

export const formatCursor = (lastId: string): string => btoa(lastId).replaceAll("=", "")

/** "" for the first page. @throws AppError `invalid_field`. */
export function parseCursor(cursor: string | undefined): string {
  if (cursor === undefined) return ""
  try {
    return atob(cursor)
  } catch {
    throw invalid([{ pointer: "?cursor", message: "must be the next_cursor of an earlier page" }])
  }
}

/** `rows` has one more than `limit` when there is another page. */
export function pageOf<Row extends { readonly id: string }, Item>(
  rows: readonly Row[],
  limit: number,
  items: readonly Item[],
): Page<Item> {
  const last = rows.length > limit ? rows[limit - 1] : undefined
  return { items: items.slice(0, limit), next_cursor: last ? formatCursor(last.id) : null }
}
