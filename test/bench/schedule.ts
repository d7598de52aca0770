/** How fast and how well one cell places, whether that lasts as it fills, and what the whole control plane makes of it. */
import { join } from "node:path"
import { fillCells, fillRows, flatness, shapeRows, TOTAL } from "./contenders/schedule-rows.ts"
import type { Bench } from "./harness/bench.ts"

/** Nodes, and cells that they are divided among. */
const SIZES = [
  { nodes: 5000, cells: 1 },
  { nodes: 15_000, cells: 1 },
  { nodes: 15_000, cells: 3 },
]

export const bench: Bench = {
  what: "placements by one cell of 5,000 and 15,000 nodes up to 1,000,000 (--count N for fewer), and by the whole control plane",
  rounds: 1,
  async run(context) {
    const total = context.count ?? TOTAL
    const filled = []
    for (const { nodes, cells } of SIZES) {
      filled.push(await fillCells(context, join(context.scratch, `fill-${nodes}-${cells}`), cells, nodes, total))
    }
    const rows = [...filled.flatMap(fillRows), flatness(filled), ...(await shapeRows(context, join(context.scratch, "shapes")))]
    return { rows, trail: null, notes: [] }
  },
}
