/** Which images to delete: those nobody needs, the longest unused first, when they are old or take too much. Pure. */

export interface CollectPolicy {
  /** An image that nobody needs goes after this long without use: the next run of a popular one then finds it. */
  readonly maxUnusedMs: number
  /** What images that nobody needs may take together; beyond it the longest unused go at once. */
  readonly maxUnusedBytes: number
  /** Never touched so soon after use: somebody may be between asking for it and holding it. */
  readonly graceMs: number
}

export const COLLECT_POLICY: CollectPolicy = {
  maxUnusedMs: 24 * 3600 * 1000,
  maxUnusedBytes: 20 * 1024 ** 3,
  graceMs: 10 * 60 * 1000,
}

export interface Candidate {
  readonly digest: string
  readonly bytes: number
  readonly lastUsedMs: number
}

export function imagesToDelete(
  images: readonly Candidate[],
  needed: { has(digest: string): boolean },
  nowMs: number,
  policy: CollectPolicy,
): string[] {
  const unused = images.filter((image) => !needed.has(image.digest)).toSorted((a, b) => a.lastUsedMs - b.lastUsedMs)
  let total = unused.reduce((sum, image) => sum + image.bytes, 0)
  return unused.flatMap((image) => {
    const age = nowMs - image.lastUsedMs
    if (age < policy.graceMs) return []
    if (age < policy.maxUnusedMs && total <= policy.maxUnusedBytes) return []
    total -= image.bytes
    return [image.digest]
  })
}
