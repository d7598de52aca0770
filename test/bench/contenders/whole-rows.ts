/** The schedule bench's rows about the whole control plane. */
import { setTimeout as sleep } from "node:timers/promises"
import type { BenchContext } from "../harness/bench.ts"
import { rateRowOf, type Row, rowOf } from "../harness/report.ts"
import { quantile } from "../harness/stats.ts"
import { joinNodes } from "./simulated-nodes.ts"
import { createInBatches, createSingly, startWhole, type Through, watchIdle } from "./whole-control-plane.ts"

const NODES = 50
const SINGLES = 3000
/** Callers at once, each with one request on its way. */
const AT_ONCE = 16
const WARM_UP = 200
const BATCHES = 5
const EACH = 1000
const LEAST_SINGLES_PER_SECOND = 500
const IDLE_NODES = 1000
const IDLE_SECONDS = 20
/** Objects are put to sleep after ten seconds without a call. */
const FALLING_ASLEEP_MS = 12_000

export async function throughRows(context: BenchContext, folder: string): Promise<Row[]> {
  await using cleanup = new AsyncDisposableStack()
  const { say, signal } = context
  const platform = await startWhole(context, folder, cleanup)
  const nodes = await joinNodes(platform.url, platform.operator, NODES, signal)
  cleanup.defer(() => nodes.close())
  await createSingly(platform, nodes, WARM_UP, AT_ONCE, signal)
  say(`${SINGLES} creates, ${AT_ONCE} at once, ${NODES} simulated nodes`)
  const single = await createSingly(platform, nodes, SINGLES, AT_ONCE, signal)
  say(`${BATCHES} batches of ${EACH}`)
  const batch = await createInBatches(platform, nodes, BATCHES, EACH, signal)
  return [
    rateRowOf({
      id: "schedule.creates",
      what: "single creates through the whole control plane, answered (ratio: peer ÷ ours)",
      unit: "/s",
      ours: rate(single, single.acceptedMs),
      peer: LEAST_SINGLES_PER_SECOND,
      peer_name: "the least it must be",
      bar: 1,
    }),
    ...stepRows("creates", "single creates", single),
    rowOf({ id: "schedule.create_p99", what: "single creates: a call, p99", unit: "ms", ours: quantile(single.callMs, 0.99) }),
    rowOf({
      id: "schedule.batches",
      what: `batches of ${EACH} through the whole control plane, answered`,
      unit: "/s",
      ours: rate(batch, batch.acceptedMs),
    }),
    ...stepRows("batches", `batches of ${EACH}`, batch),
  ]
}

const rate = ({ runs }: Through, ms: number) => (runs * 1000) / ms

const stepRows = (id: string, what: string, through: Through): Row[] => [
  rowOf({
    id: `schedule.${id}_placed`,
    what: `${what}: told to their nodes`,
    unit: "/s",
    ours: rate(through, through.assignedMs),
  }),
  rowOf({
    id: `schedule.${id}_acknowledged`,
    what: `${what}: said to run, and acknowledged`,
    unit: "/s",
    ours: rate(through, through.acknowledgedMs),
  }),
  rowOf({
    id: `schedule.${id}_per_request`,
    what: `${what}: placements a request`,
    unit: "",
    ours: through.runs / through.requests,
  }),
]

/** In a control plane of its own: whatever is written there is written for idle nodes. */
export async function idleRows(context: BenchContext, folder: string): Promise<Row[]> {
  await using cleanup = new AsyncDisposableStack()
  const { say, signal } = context
  const platform = await startWhole(context, folder, cleanup)
  say(`connecting ${IDLE_NODES} simulated nodes`)
  const nodes = await joinNodes(platform.url, platform.operator, IDLE_NODES, signal)
  cleanup.defer(() => nodes.close())
  say(`${IDLE_NODES} idle nodes for ${IDLE_SECONDS} s`)
  await sleep(FALLING_ASLEEP_MS, undefined, { signal })
  const idle = await watchIdle(platform, nodes, IDLE_SECONDS, signal)
  const each = `${IDLE_NODES.toLocaleString("en")} idle nodes`
  return [
    rowOf({
      id: "schedule.idle_writes",
      what: `${each}: databases written in ${IDLE_SECONDS} s`,
      unit: "",
      ours: idle.written,
      bar: 0,
    }),
    rowOf({
      id: "schedule.idle_messages",
      what: `${each}: messages, of which ${((idle.heartbeats * 2 * 100) / idle.messages).toFixed(0)} % are heartbeats and their answers`,
      unit: "/s",
      ours: idle.messages / idle.seconds,
    }),
    rowOf({ id: "schedule.idle_cpu", what: `${each}: processor time of workerd`, unit: "ms/s", ours: idle.cpuMs / idle.seconds }),
  ]
}
