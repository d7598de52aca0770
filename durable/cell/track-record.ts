/** What a cell remembers of how runs fared on a node: bounded, and only ever a hint for choosing. Pure. */
import type { TrackRecord } from "./node-state.ts"

/** Images remembered of one node. Hosts keep more, but what ran lately is what is likely still there. */
const MAX_IMAGES = 16
/** A failure counts half after this long: a node that was mended wins back its runs within the hour. */
const HALF_LIFE_MS = 10 * 60_000
/** Below this nothing is left of them that could sway a choice. */
const FORGOTTEN = 0.01

export const NO_RECORD: TrackRecord = { images: [], failures: 0, failed_at_ms: 0 }

export function failuresAt({ failures, failed_at_ms }: TrackRecord, now_ms: number): number {
  if (failures === 0) return 0
  const left = failures * 2 ** (-Math.max(0, now_ms - failed_at_ms) / HALF_LIFE_MS)
  return left < FORGOTTEN ? 0 : left
}

export const withFailures = (record: TrackRecord, count: number, now_ms: number): TrackRecord => ({
  ...record,
  failures: failuresAt(record, now_ms) + count,
  failed_at_ms: now_ms,
})

/** The same record where the image is known already: it is not moved up, so that a usual image costs no write. */
export const withImage = (record: TrackRecord, image: number): TrackRecord =>
  record.images.includes(image) ? record : { ...record, images: [...record.images, image].slice(-MAX_IMAGES) }
