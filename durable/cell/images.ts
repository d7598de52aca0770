/** On how many nodes of the cell each image has been run, by its hash. */
import type { TrackRecord } from "./node-state.ts"

/**
 * So many nodes with an image are enough for its runs to be drawn to them. Were one enough, the first node to run an image
 * would draw all others of it, and go down with all of them.
 */
const ENOUGH_NODES = 8

export class Images {
  readonly #nodes = new Map<number, number>()

  /** How much it counts that a node has the image, in [0, 1]. */
  pull(image: number): number {
    return Math.min(1, (this.#nodes.get(image) ?? 0) / ENOUGH_NODES)
  }

  /** A node's record becomes another. */
  replace({ images: before }: Pick<TrackRecord, "images">, { images: after }: Pick<TrackRecord, "images">): void {
    for (const image of after) if (!before.includes(image)) this.#nodes.set(image, (this.#nodes.get(image) ?? 0) + 1)
    for (const image of before) {
      if (after.includes(image)) continue
      const left = (this.#nodes.get(image) ?? 0) - 1
      if (left > 0) this.#nodes.set(image, left)
      else this.#nodes.delete(image)
    }
  }
}
