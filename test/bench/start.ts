/** How long a tenant waits for a container, beside what else starts containers on this machine. The image is cached everywhere. */
import { join } from "node:path"
import { layoutOf } from "../../bin/platform.ts"
import type { Timings } from "../../schema/protocol.ts"
import { bareCrun } from "./contenders/bare-crun.ts"
import { berthBurst, berthCreate, typicalTrail } from "./contenders/berth.ts"
import { dockerApi, dockerBurst, dockerRun } from "./contenders/docker-run.ts"
import { dockerOrNote } from "./contenders/docker-beside.ts"
import type { Dockerd } from "./contenders/dockerd.ts"
import { startOurs } from "./contenders/our-platform.ts"
import { initSwarm, swarmService } from "./contenders/swarm.ts"
import { makeWorkload, type Workload } from "./contenders/workload.ts"
import type { Bench, Contender } from "./harness/bench.ts"
import { type Row, rowOf } from "./harness/report.ts"
import { alternate, type Series } from "./harness/rounds.ts"
import { median, p95 } from "./harness/stats.ts"

const BURST = 40
/** A burst takes Docker seconds; its spread is small beside the ratio. */
const BURST_ROUNDS = 3

/** What a container may use when its create body does not say; Docker's may use all there is. */
const DEFAULT_CPUS = 1
/** Each container's part of a 2-processor machine: a limit this low holds up the container's own setup. */
const CPU_SHARE = 0.05
/** One more than a burst takes: capacity is what placement counts with, not a limit on anything. */
const CAPACITY_CPUS = BURST + 1
const OFFERING = ["--capacity-cpus", String(CAPACITY_CPUS)]
const OVERCOMMIT_NOTE = `our node offers ${CAPACITY_CPUS} processors, more than it may have, so that the whole burst fits at the default of 1 each`

const CREATE = { create: "berth", host: "berth.host" }
const BURSTS = { run: "docker.burst", api: "docker.burst.api" }

export const bench: Bench = {
  what: "one create call, answered when the container runs, beside docker run, Swarm and bare crun; and 40 at once",
  rounds: 20,
  async run(context) {
    await using cleanup = new AsyncDisposableStack()
    const notes: string[] = []
    const state = join(context.scratch, "state")
    const workload = await makeWorkload(layoutOf(state).images, join(context.scratch, "workload"))

    const dockerd = await dockerOrNote(context, cleanup, workload.archive, notes)
    const crun = await bareCrun(join(context.scratch, "crun"), "crun", workload.rootDir)
    cleanup.defer(() => crun.tidy().catch(() => {})) // nothing to delete when its turn was over
    const swarm = dockerd && (await swarmOrNote(dockerd, workload, notes))
    const platform = context.peersOnly ? undefined : await startOurs(context, state, cleanup, OFFERING)

    const trails: Timings[] = []
    const singles: Contender[] = [
      ...(platform ? [berthCreate(platform.tenant, CREATE, trails)] : []),
      crun,
      ...(dockerd ? [dockerRun(dockerd, "docker", workload, "bridge"), dockerRun(dockerd, "docker.none", workload, "none")] : []),
      ...(dockerd ? [dockerApi(dockerd, "docker.api", workload)] : []),
      ...(swarm ? [swarm] : []),
    ]
    context.say(`one at a time, ${context.rounds} rounds: ${singles.map(({ name }) => name).join(", ")}`)
    const single = await alternate(singles, context.rounds, context)

    const bursts: Contender[] = [
      ...(platform ? [berthBurst(platform.tenant, "berth.burst", BURST, DEFAULT_CPUS)] : []),
      ...(platform ? [berthBurst(platform.tenant, "berth.burst.share", BURST, CPU_SHARE)] : []),
      ...(dockerd ? dockerBurst(dockerd, BURSTS, workload, BURST) : []),
    ]
    context.say(`${BURST} at once, ${BURST_ROUNDS} rounds: ${bursts.map(({ name }) => name).join(", ")}`)
    const burst = await alternate(bursts, BURST_ROUNDS, context)
    if (platform) notes.push(OVERCOMMIT_NOTE)

    return { rows: rows(single, burst), trail: platform ? typicalTrail(trails) : null, notes }
  },
}

async function swarmOrNote(dockerd: Dockerd, workload: Workload, notes: string[]): Promise<Contender | undefined> {
  try {
    await initSwarm(dockerd)
    return swarmService(dockerd, "swarm", workload)
  } catch (error) {
    notes.push(`not compared with Swarm: ${messageOf(error)}`)
    return undefined
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

function rows(single: Series, burst: Series): Row[] {
  const ms = { unit: "ms" }
  const ours = single.of(CREATE.create, median)
  const docker = single.of("docker", median)
  const create = "create call with Prefer: wait → running, p50"
  return [
    rowOf({
      id: "start.create_vs_docker",
      what: create,
      ...ms,
      ours,
      peer: docker,
      peer_name: "docker run -d, bridge",
      bar: 1 / 8,
    }),
    rowOf({
      id: "start.create_vs_swarm",
      what: create,
      ...ms,
      ours,
      peer: single.of("swarm", median),
      peer_name: "Swarm service create",
      bar: 1 / 10,
    }),
    rowOf({
      id: "start.host_vs_crun",
      what: "host part: assignment → running, p50",
      ...ms,
      ours: single.of(CREATE.host, median),
      peer: single.of("crun", median),
      peer_name: "crun run, user namespace",
      bar: 1.6,
    }),
    rowOf({
      id: "start.burst40_vs_docker",
      what: `${BURST} asked at once → all running`,
      ...ms,
      ours: burst.of("berth.burst", median),
      peer: burst.of(BURSTS.run, median),
      peer_name: `${BURST} docker run -d`,
      bar: 1 / 12,
    }),
    rowOf({
      id: "start.create_p95_vs_docker",
      what: "create call with Prefer: wait → running, p95",
      ...ms,
      ours: single.of(CREATE.create, p95),
      peer: single.of("docker", p95),
      peer_name: "docker run -d, bridge",
    }),
    rowOf({
      id: "start.create_p95_vs_swarm",
      what: "create call with Prefer: wait → running, p95",
      ...ms,
      ours: single.of(CREATE.create, p95),
      peer: single.of("swarm", p95),
      peer_name: "Swarm service create",
    }),
    rowOf({
      id: "start.host_p95_vs_crun",
      what: "host part, p95",
      ...ms,
      ours: single.of(CREATE.host, p95),
      peer: single.of("crun", p95),
      peer_name: "crun run, user namespace",
    }),
    rowOf({
      id: "start.create_vs_docker_none",
      what: create,
      ...ms,
      ours,
      peer: single.of("docker.none", median),
      peer_name: "docker run -d, no network",
    }),
    rowOf({
      id: "start.create_vs_docker_api",
      what: create,
      ...ms,
      ours,
      peer: single.of("docker.api", median),
      peer_name: "Docker's API, no client started",
    }),
    rowOf({
      id: "start.create_vs_crun",
      what: create,
      ...ms,
      ours,
      peer: single.of("crun", median),
      peer_name: "crun run, user namespace",
    }),
    rowOf({
      id: "start.burst40_vs_docker_api",
      what: `${BURST} asked at once → all running`,
      ...ms,
      ours: burst.of("berth.burst", median),
      peer: burst.of(BURSTS.api, median),
      peer_name: `${BURST} by Docker's API`,
    }),
    rowOf({
      id: "start.burst40_share_vs_docker",
      what: `the same, limited to ${CPU_SHARE} processors each`,
      ...ms,
      ours: burst.of("berth.burst.share", median),
      peer: burst.of(BURSTS.run, median),
      peer_name: `${BURST} docker run -d, no limit`,
    }),
  ]
}
