/** When a run's disk counts as full, from one look to the next. Pure. */
import { MIB } from "../../schema/container.ts"
import type { Usage } from "./space.ts"

/**
 * A writer that was refused has left less than this free. Never all is taken: ext4 stops some tens of blocks short, so that
 * what was accepted can be written for sure.
 */
const FULL_BYTES = MIB
const FULL_SHARE = 0.001
/** One filling is over once so many times more is free again: then the next is news. */
const EMPTIER = 4

export interface Fill {
  /** What is used up, told already; null for nothing. */
  readonly full: "bytes" | "files" | null
}

/** The state after a look, and whether it is news. */
export function look(before: Fill, usage: Usage): { readonly fill: Fill; readonly news: boolean } {
  if (before.full !== null) return { fill: usedUp(usage, EMPTIER) === null ? { full: null } : before, news: false }
  const full = usedUp(usage, 1)
  return { fill: { full }, news: full !== null }
}

function usedUp({ totalBytes, freeBytes, files, freeFiles }: Usage, margin: number): Fill["full"] {
  if (freeBytes < Math.max(FULL_BYTES, totalBytes * FULL_SHARE) * margin) return "bytes"
  // Some file systems number no inodes.
  return files > 0 && freeFiles < files * FULL_SHARE * margin ? "files" : null
}

export function sentence(full: "bytes" | "files", { totalBytes, files }: Usage): string {
  return full === "bytes"
    ? `The container's disk of ${totalBytes} bytes is full.`
    : `The container's disk can hold no more files than its ${files}.`
}
