/** What becomes of nodes of three sizes when runs of many sizes are placed on them, by a sample or by a look at every node. */
import { CapacityLedger } from "../../../durable/cell/ledger.ts"
import { SAMPLE, schedule, searchFor } from "../../../durable/cell/schedule.ts"
import { weighted } from "../../../durable/cell/scorers.ts"
import { anId, GIB } from "../../support/factories.ts"
import { aNodeRow, anAsk, someResources } from "../../support/cell.ts"
import type { Trial, TrialResult } from "./calls.ts"

/** Processors of a node; each has three GiB of memory for one of them. */
const SIZES = [8, 16, 64]
const GIB_PER_CPU = 3
/** Processors and GiB of a run: most are small, some take half of the smallest node. */
const RUNS = [[0.1, 0.125], [0.25, 0.5], [0.5, 1], [1, 2], [2, 4], [4, 16], [8, 16], [1, 8], [4, 2]] as const // prettier-ignore
const IMAGES = 200
const PLENTY = { pids: 1e9, runs: 1e6, disk_bytes: 1e15 }

/** The same numbers for each trial, so that two trials differ in nothing but what they are about (mulberry32). */
function sequence(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export function runTrial({ nodes, fullScan, weights, asked }: Trial): TrialResult {
  const ledger = new CapacityLedger()
  for (let i = 0; i < nodes; i++) {
    const cpus = SIZES[i % SIZES.length] ?? 8
    ledger.put(aNodeRow({ capacity: { cpus, memory_bytes: cpus * GIB_PER_CPU * GIB, ...PLENTY } }))
  }
  const total = ledger.room()
  const random = sequence(1)
  const scorers = weighted(weights)
  const tenant_id = anId("ten")
  const any = someResources()
  let [start, asking, placed, refused] = [0, 0, 0, 0]
  let half: Pick<TrialResult, "fullest" | "empty"> | undefined
  while (asking < total.cpus * asked) {
    const [cpus, gib] = RUNS[Math.floor(random() * RUNS.length)] ?? [1, 1]
    const run = anId("run")
    const image = `image-${Math.floor(random() * IMAGES)}`
    const ask = anAsk({ run_ids: [run], tenant_id, image, resources: { ...any, cpus, memory_bytes: gib * GIB } })
    const { groups, images } = ledger
    const found = schedule(
      ledger.blocks,
      searchFor(ask, { groups, images, now_ms: 0 }, scorers),
      run,
      start,
      fullScan ? Infinity : SAMPLE,
    )
    start += found.blocks
    asking += cpus
    if (found.node === undefined) refused++
    else {
      placed++
      const { pids, disk_bytes } = ask.resources
      const row = { cpus, memory_bytes: gib * GIB, pids, disk_bytes, devices: null, group: null, anti_affinity: null }
      ledger.reserve(found.node.id, row)
    }
    if (asking >= total.cpus / 2) half ??= loads(ledger)
  }
  const left = ledger.room()
  const [cpus, memory] = [1 - left.free_cpus / total.cpus, 1 - left.free_memory_bytes / total.memory_bytes]
  return { placed, refused, cpus, memory, ...(half ?? loads(ledger)) }
}

function loads(ledger: CapacityLedger): Pick<TrialResult, "fullest" | "empty"> {
  const all = ledger.nodes.map(({ used, capacity }) => used.cpus / capacity.cpus)
  return { fullest: all.reduce((most, load) => Math.max(most, load), 0), empty: all.filter((load) => load === 0).length }
}
