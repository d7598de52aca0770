/** The schedule bench's row about many replicas on one real machine: the whole platform with its host beside Docker Swarm. */
import { join } from "node:path"
import { layoutOf } from "../../../bin/platform.ts"
import { Resources } from "../../../schema/container.ts"
import type { BenchContext, Contender } from "../harness/bench.ts"
import { type Row, rowOf } from "../harness/report.ts"
import { Series } from "../harness/rounds.ts"
import { median } from "../harness/stats.ts"
import { berthReplicas } from "./berth.ts"
import { dockerOrNote } from "./docker-beside.ts"
import { capacityArgs, startOurs } from "./our-platform.ts"
import { initSwarm, swarmService } from "./swarm.ts"
import { makeWorkload } from "./workload.ts"

const REPLICAS = 100
/** All of them at the defaults of a create body, and one more: what placement counts with, not a limit on anything. */
const ROOM = REPLICAS + 1
const EACH = Resources.parse({})
const OFFERING = capacityArgs({
  runs: ROOM,
  cpus: ROOM * EACH.cpus,
  "memory-bytes": ROOM * EACH.memory_bytes,
  pids: ROOM * EACH.pids,
  "disk-bytes": ROOM * EACH.disk_bytes,
})

/** The image is cached on both sides. Each starts one first, so that what is made once is not counted. */
export async function replicaRows(context: BenchContext, notes: string[]): Promise<Row[]> {
  await using cleanup = new AsyncDisposableStack()
  const state = join(context.scratch, "replicas")
  const workload = await makeWorkload(layoutOf(state).images, join(context.scratch, "workload"))
  const dockerd = await dockerOrNote(context, cleanup, workload.archive, notes)
  const series = new Series()
  if (dockerd !== undefined) {
    await initSwarm(dockerd)
    await measure(
      [swarmService(dockerd, "warm-up", workload), swarmService(dockerd, "swarm", workload, REPLICAS)],
      series,
      context,
    )
  }
  if (!context.peersOnly) {
    const { tenant } = await startOurs(context, state, cleanup, OFFERING)
    await measure([berthReplicas(tenant, "warm-up", 1), berthReplicas(tenant, "berth", REPLICAS)], series, context)
  }
  return [
    rowOf({
      id: "schedule.replicas100_vs_swarm",
      what: `${REPLICAS} replicas by one call on one machine → all running`,
      unit: "ms",
      ours: series.of("berth", median),
      peer: series.of("swarm", median),
      peer_name: `docker service create --replicas ${REPLICAS}`,
    }),
  ]
}

async function measure(contenders: readonly Contender[], series: Series, { say, signal }: BenchContext): Promise<void> {
  for (const contender of contenders) {
    signal.throwIfAborted()
    say(contender.name)
    series.add(await contender.once())
    await contender.tidy()
  }
}
