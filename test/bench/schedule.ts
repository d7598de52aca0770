/** How fast and how well one cell places, whether that lasts as it fills, and what the whole control plane makes of it. */
import { join } from "node:path"
import { replicaRows } from "./contenders/replica-rows.ts"
import { type Filled, fillCells, fillRows, flatness, shapeRows, TOTAL } from "./contenders/schedule-rows.ts"
import { idleRows, throughRows } from "./contenders/whole-rows.ts"
import type { Bench } from "./harness/bench.ts"

/** Nodes, and cells that they are divided among: what a cell is meant for, far more, and that divided as it should be. */
const SIZES = [
  { nodes: 5000, cells: 1 },
  { nodes: 15_000, cells: 1 },
  { nodes: 15_000, cells: 3 },
]

const NOTES = [
  "placements: the real object in workerd, asked over HTTP with a run id for each; nodes of one size, with a quarter more room than is placed",
  "scheduler_perf's figures are the thresholds that its authors publish for their machines, and Nomad's are its makers' own: not measured here",
  "simulated nodes speak the protocol over real sockets and run nothing; they and the callers share this machine with the control plane",
  "live heap is of the isolate that holds all objects, after a collection, by workerd's inspector; its process (PSS) holds garbage and other isolates as well",
]

export const bench: Bench = {
  what: "placements by one cell of 5,000 and 15,000 nodes up to 1,000,000 (--count N for fewer), and by the whole control plane",
  rounds: 1,
  async run(context) {
    const notes = [...NOTES]
    const replicas = await replicaRows(context, notes)
    if (context.peersOnly) return { rows: replicas, trail: null, notes }
    const filled: Filled[] = []
    for (const { nodes, cells } of SIZES) {
      const folder = join(context.scratch, `fill-${nodes}-${cells}`)
      filled.push(await fillCells(context, folder, cells, nodes, context.count ?? TOTAL))
    }
    const rows = [
      ...filled.flatMap(fillRows),
      flatness(filled),
      ...(await shapeRows(context, join(context.scratch, "shapes"))),
      ...(await throughRows(context, join(context.scratch, "through"))),
      ...(await idleRows(context, join(context.scratch, "idle"))),
      ...replicas,
    ]
    return { rows, trail: null, notes }
  },
}
