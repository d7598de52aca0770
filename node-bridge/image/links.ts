/**
 * Where an entry of an archive comes to lie when links that the archive itself brought are in its way. Every link that was
 * ever seen counts, even one that a later layer took away again: what matters is never to miss one. Pure.
 */

/** As many as the kernel follows. */
const MAX_LINKS = 40

export class SeenLinks {
  readonly #targets = new Map<string, string>()

  add(path: readonly string[], target: string): void {
    this.#targets.set(path.join("/"), target)
  }

  /** The place of an entry, its parents' links followed as inside a root; null when they go round in circles. */
  placeOf(path: readonly string[]): readonly string[] | null {
    if (this.#targets.size === 0) return path
    const parents = this.#follow(path.slice(0, -1))
    return parents === null ? null : [...parents, ...path.slice(-1)]
  }

  #follow(path: readonly string[]): string[] | null {
    const ahead = path.toReversed()
    const place: string[] = []
    for (let links = 0; ;) {
      const part = ahead.pop()
      if (part === undefined) return place
      if (part === "" || part === ".") continue
      if (part === "..") {
        place.pop() // above the root is the root
        continue
      }
      place.push(part)
      const target = this.#targets.get(place.join("/"))
      if (target === undefined) continue
      if (++links > MAX_LINKS) return null
      if (target.startsWith("/")) place.length = 0
      else place.pop()
      ahead.push(...target.split("/").toReversed())
    }
  }
}
