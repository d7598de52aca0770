/** When a run's disk counts as full, from one look to the next. Pure. */
import type { Usage } from "./space.ts"

/** A writer that was refused has left less than this free, in bytes or in files; the very last block is rarely taken. */
const FULL_SHARE = 0.001
/** One filling is over once this much is free again: then the next is news. */
const EMPTIER_SHARE = 0.05

export interface Fill {
  /** What is used up, told already; null for nothing. */
  readonly full: "bytes" | "files" | null
}

/** The state after a look, and whether it is news. */
export function look(before: Fill, usage: Usage): { readonly fill: Fill; readonly news: boolean } {
  const bytes = usage.freeBytes / usage.totalBytes
  // Some file systems number no inodes.
  const files = usage.files === 0 ? 1 : usage.freeFiles / usage.files
  if (before.full !== null) {
    const emptier = Math.min(bytes, files) >= EMPTIER_SHARE
    return { fill: emptier ? { full: null } : before, news: false }
  }
  const full = bytes < FULL_SHARE ? "bytes" : files < FULL_SHARE ? "files" : null
  return { fill: { full }, news: full !== null }
}

export function sentence(full: "bytes" | "files", { totalBytes, files }: Usage): string {
  return full === "bytes"
    ? `The container's disk of ${totalBytes} bytes is full.`
    : `The container's disk can hold no more files than its ${files}.`
}
