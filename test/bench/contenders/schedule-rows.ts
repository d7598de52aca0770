/** The schedule bench's rows about one cell: how fast it places, whether that lasts, and how well by sampling. */
import { Weights } from "../../../schema/api.ts"
import type { BenchContext } from "../harness/bench.ts"
import { rateRowOf, type Row, rowOf } from "../harness/report.ts"
import { quantile } from "../harness/stats.ts"
import { BATCH, fill, perSecond, roomyNodes, runShape, type Series, SHAPES, singles, tenths } from "./cell-load.ts"
import { type DrivenCells, startDrivenCells } from "./driven-cell.ts"

export const TOTAL = 1_000_000
/** Placed on a cell of its own before anything is counted: the first calls compile the code. */
const WARM_UP = 20_000
const WARM_UP_NODES = 200
const SINGLES = 1000
const SHAPE_NODES = 5000
const SHAPE_PODS = 10_000
/** Placements through the real object, as the bar has it. */
const LEAST_PER_SECOND = 40_000
const NOMAD_PER_SECOND = 3750
/** An object may take so much where the platform is deployed. */
const MOST_HEAP_MIB = 128
const MOST_LAST_VS_FIRST = 1.3
const KUBERNETES = "kubernetes scheduler_perf (published)"

const p99 = (ms: readonly number[]) => quantile(ms, 0.99)

export interface Filled {
  readonly nodes: number
  readonly cells: number
  readonly series: Series
  readonly singleMs: readonly number[]
  readonly bytes: number
  /** What lives in the heap, with the nodes registered and after. */
  readonly emptyMib: number
  readonly fullMib: number
  /** Of workerd's process. */
  readonly processMib: number
}

/** A new workerd for each size, so that bytes and memory are its own. */
export async function fillCells(
  context: BenchContext,
  folder: string,
  cells: number,
  nodes: number,
  total: number,
): Promise<Filled> {
  await using cleanup = new AsyncDisposableStack()
  const { say, signal } = context
  const driven = await startDrivenCells(context, folder, cleanup)
  const all = Array.from({ length: cells }, () => driven.newCell())
  say(`registering ${nodes} nodes in ${cells === 1 ? "one cell" : `${cells} cells`}`)
  for (const cell of all) await cell.register(roomyNodes(nodes / cells, total / cells))
  const [first] = all
  if (first === undefined) throw new RangeError("there must be a cell")
  const warm = driven.newCell()
  await warm.register(roomyNodes(WARM_UP_NODES, WARM_UP))
  await fill([warm], WARM_UP, signal)
  const before = await driven.bytesOnDisk()
  const emptyMib = await driven.heapMib()
  say(`placing ${total}, ${BATCH} a call`)
  const series = await fill(all, total, signal)
  const processMib = await driven.memoryMib()
  const [bytes, fullMib] = [(await driven.bytesOnDisk()) - before, await driven.heapMib()]
  return { nodes, cells, series, singleMs: await singles(first, SINGLES, signal), bytes, emptyMib, fullMib, processMib }
}

export function fillRows({ nodes, cells, series, singleMs, bytes, emptyMib, fullMib, processMib }: Filled): Row[] {
  const name = cells === 1 ? `${nodes}` : `${nodes}_in_${cells}`
  const where = `${nodes.toLocaleString("en")} nodes${cells === 1 ? "" : ` in ${cells} cells`}`
  const ours = perSecond(series.placed, series.batchMs)
  const { first, last } = tenths(series)
  const perSecondRow = { unit: "/s", ours }
  return [
    rateRowOf({
      id: `schedule.placements_${name}`,
      what: `${where}: ${series.placed.toLocaleString("en")} placed, ${BATCH} a call (ratio: peer ÷ ours)`,
      ...perSecondRow,
      peer: LEAST_PER_SECOND,
      peer_name: "the least it must be",
      bar: 1,
    }),
    rateRowOf({
      id: `schedule.placements_${name}_vs_nomad`,
      what: `${where}: the same (ratio: peer ÷ ours)`,
      ...perSecondRow,
      peer: NOMAD_PER_SECOND,
      peer_name: "Nomad (published: 1,500 to 3,750)",
    }),
    rowOf({ id: `schedule.first_tenth_${name}`, what: `${where}: the first tenth`, unit: "/s", ours: first }),
    rowOf({ id: `schedule.last_tenth_${name}`, what: `${where}: the last tenth`, unit: "/s", ours: last }),
    rowOf({ id: `schedule.batch_p99_${name}`, what: `${where}: a call of ${BATCH}, p99`, unit: "ms", ours: p99(series.batchMs) }),
    rowOf({
      id: `schedule.single_p99_${name}`,
      what: `${where}, all placed: a call of one, p99`,
      unit: "ms",
      ours: p99(singleMs),
    }),
    rowOf({
      id: `schedule.bytes_each_${name}`,
      what: `${where}: on disk for each placed`,
      unit: "B",
      ours: bytes / series.placed,
    }),
    rowOf({
      id: `schedule.heap_${name}`,
      what: `${where}: live heap, all placed`,
      unit: "MiB",
      ours: fullMib,
      bar: MOST_HEAP_MIB,
    }),
    rowOf({
      id: `schedule.heap_growth_${name}`,
      what: `${where}: how much more than before the first`,
      unit: "MiB",
      ours: fullMib - emptyMib,
    }),
    rowOf({ id: `schedule.process_${name}`, what: `${where}: workerd's process`, unit: "MiB", ours: processMib }),
  ]
}

/** How much slower the last tenth was than the first, of the one for which that is most. */
export function flatness(filled: readonly Filled[]): Row {
  const ratios = filled.map(({ series }) => {
    const { first, last } = tenths(series)
    return first / last
  })
  return rowOf({
    id: "schedule.last_vs_first",
    what: "time of the last tenth ÷ of the first, the worst of the fills",
    unit: "×",
    ours: ratios.length === 0 ? null : Math.max(...ratios),
    bar: MOST_LAST_VS_FIRST,
  })
}

export async function shapeRows(context: BenchContext, folder: string): Promise<Row[]> {
  await using cleanup = new AsyncDisposableStack()
  const driven = await startDrivenCells(context, folder, cleanup)
  const rows: Row[] = []
  for (const shape of SHAPES) {
    context.say(`scheduler_perf's shapes: ${shape.id}`)
    const ours = await runShape(driven.newCell(), shape, SHAPE_NODES, SHAPE_PODS, context.signal)
    rows.push(
      rateRowOf({
        id: `schedule.${shape.id}`,
        what: `${shape.what} (ratio: peer ÷ ours)`,
        unit: "/s",
        ours,
        peer: shape.floor,
        peer_name: KUBERNETES,
        bar: 1,
      }),
    )
  }
  return [...rows, ...(await qualityRows(context, driven))]
}

/** Nodes of a trial; a full scan takes so long for each of them. */
const TRIAL_NODES = 600
const TRIAL_ASKED = 1.1
const FULL_SCAN = "a look at every node"

async function qualityRows({ say }: BenchContext, driven: DrivenCells): Promise<Row[]> {
  say(`placing by a sample and by a look at every node, ${TRIAL_NODES} nodes`)
  const weights = Weights.parse({})
  const packing = { ...weights, spread: 0, bin_pack: 1, image: 0 }
  const trial = { nodes: TRIAL_NODES, asked: TRIAL_ASKED }
  const spread = [
    await driven.tryOut({ ...trial, weights, fullScan: false }),
    await driven.tryOut({ ...trial, weights, fullScan: true }),
  ] as const
  const packed = [
    await driven.tryOut({ ...trial, weights: packing, fullScan: false }),
    await driven.tryOut({ ...trial, weights: packing, fullScan: true }),
  ] as const
  const used = (empty: number) => TRIAL_NODES - empty
  return [
    pair(
      "quality_refused",
      "refused of mixed sizes, a tenth more asked than there is",
      "runs",
      [spread[0].refused, spread[1].refused],
      1.05,
    ),
    pair("quality_refused_packing", "the same by bin_pack", "runs", [packed[0].refused, packed[1].refused], 1.05),
    pair("quality_cpus", "processors reserved then", "%", [spread[0].cpus * 100, spread[1].cpus * 100]),
    pair(
      "quality_fullest",
      "the most loaded node, half asked for",
      "%",
      [spread[0].fullest * 100, spread[1].fullest * 100],
      1.15,
    ),
    pair(
      "quality_nodes_used",
      "nodes in use by bin_pack, half asked for",
      "nodes",
      [used(packed[0].empty), used(packed[1].empty)],
      1.05,
    ),
  ]
}

const pair = (id: string, what: string, unit: string, [ours, peer]: readonly [number, number], bar?: number): Row =>
  rowOf({ id: `schedule.${id}`, what, unit, ours, peer, peer_name: FULL_SCAN, ...(bar !== undefined && { bar }) })
