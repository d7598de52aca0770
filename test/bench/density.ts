/** Many idle containers on one machine: what each costs in memory with all its helpers, and whether the last start as the first. */
import { freemem } from "node:os"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import type { Client } from "../../bin/client.ts"
import { layoutOf } from "../../bin/platform.ts"
import type { Container } from "../../schema/api.ts"
import { MIB, MIN_DISK_BYTES } from "../../schema/container.ts"
import type { Timings } from "../../schema/protocol.ts"
import { typicalTrail } from "./contenders/berth.ts"
import { dockerOrNote } from "./contenders/docker-beside.ts"
import type { Dockerd } from "./contenders/dockerd.ts"
import { kernelKib, processesUnder } from "./contenders/kernel-memory.ts"
import { capacityArgs, startOurs } from "./contenders/our-platform.ts"
import { makeWorkload, SLEEP, type Workload } from "./contenders/workload.ts"
import type { Bench, BenchContext } from "./harness/bench.ts"
import { type Row, rowOf } from "./harness/report.ts"
import { median, p95 } from "./harness/stats.ts"

const COUNT = 1000
/** Memory per container hardly depends on the number, and Docker takes a third of a second for each. */
const DOCKER_COUNT = 100
/** How many are called the first, and the last; of few containers a tenth. */
const EDGE = 100
/** Fill caches and pools before anything is counted. */
const WARM_UP = 8
/** What a container may take before a machine without swap is at its end: the bar twice over. */
const SAFE_MIB_EACH = 4
const MEMORY_BYTES = 16 * MIB
/** Deletions at once; more only wait for the kernel's one lock on network namespaces. */
const PARALLEL_REMOVALS = 8
const WAIT_SECONDS = 120

interface Cost {
  readonly mibEach: number
  readonly helpersMib: number
  readonly kernelMib: number
}

export const bench: Bench = {
  what: "memory of each of 1,000 idle containers with all helpers (--count N for fewer), and the last hundred starts beside the first",
  rounds: 1,
  async run(context) {
    await using cleanup = new AsyncDisposableStack()
    const count = context.count ?? COUNT
    await refuseTooMany(count)
    const notes: string[] = []
    const state = join(context.scratch, "state")
    const workload = await makeWorkload(layoutOf(state).images, join(context.scratch, "workload"))
    const ours = context.peersOnly ? undefined : await measureOurs(context, state, count, notes)
    const dockerd = await dockerOrNote(context, cleanup, workload.archive, notes)
    const docker = dockerd && (await measureDocker(context, dockerd, workload, Math.min(count, DOCKER_COUNT)))
    return { rows: rows(count, ours, docker), trail: ours?.trail ?? null, notes }
  },
}

async function refuseTooMany(count: number): Promise<void> {
  const available =
    Number((await readFile("/proc/meminfo", "utf8")).match(/^MemAvailable:\s+(\d+)/m)?.[1] ?? freemem() / 1024) / 1024
  if (count * SAFE_MIB_EACH > available)
    throw new Error(
      `${count} containers may need ${count * SAFE_MIB_EACH} MiB, and ${Math.floor(available)} are free: give a smaller --count.`,
    )
  if (count <= WARM_UP) throw new Error(`--count must be above ${WARM_UP} here.`)
}

async function measureOurs(context: BenchContext, state: string, count: number, notes: string[]) {
  await using cleanup = new AsyncDisposableStack()
  const platform = await startOurs(context, state, cleanup, offering(count))
  const made: string[] = []
  cleanup.defer(() => removeAll(platform.tenant, made, context))

  for (let i = 0; i < WARM_UP; i++) await startOne(platform.tenant, made, [])
  await removeAll(platform.tenant, made, context)

  const bridge = (commandLine: string) => commandLine.includes("node-bridge/main.ts") && commandLine.includes(state)
  const [kernelBefore, helpersBefore, bridgeBefore] = [
    await kernelKib(),
    await processesUnder(isConmon),
    await processesUnder(bridge),
  ]
  const starts: number[] = []
  const trails: Timings[] = []
  for (let i = 1; i <= count; i++) {
    context.signal.throwIfAborted()
    starts.push(await startOne(platform.tenant, made, trails))
    if (i % EDGE === 0) context.say(`${i} of ${count} run, p95 of the last hundred ${p95(starts.slice(-EDGE)).toFixed(0)} ms`)
  }
  const [kernelAfter, helpersAfter, bridgeAfter] = [
    await kernelKib(),
    await processesUnder(isConmon),
    await processesUnder(bridge),
  ]
  const edge = Math.min(EDGE, Math.max(1, Math.floor(count / 10)))
  const bridgeKib = bridgeAfter.pssKib - bridgeBefore.pssKib
  notes.push(
    `${helpersAfter.pids.length - helpersBefore.pids.length} processes came with the ${count} containers; the node-bridge itself grew by ${(bridgeKib / 1024).toFixed(1)} MiB, which its garbage collector decides and the figure leaves out`,
  )
  notes.push(
    `starts one after the other, p50 of the first ${edge} ${median(starts.slice(0, edge)).toFixed(0)} ms, of the last ${median(starts.slice(-edge)).toFixed(0)} ms`,
  )
  notes.push(`the steps below are those of the last ${edge}; of the first: ${inWords(typicalTrail(trails.slice(0, edge)))}`)
  return {
    trail: typicalTrail(trails.slice(-edge)),
    cost: costOf(count, helpersAfter.pssKib - helpersBefore.pssKib, kernelAfter - kernelBefore),
    edge,
    first: p95(starts.slice(0, edge)),
    last: p95(starts.slice(-edge)),
  }
}

const inWords = (trail: Record<string, number>): string =>
  Object.entries(trail)
    .map(([step, ms]) => `${step} ${ms.toFixed(1)}`)
    .join(", ")

/** As much as the containers ask for: capacity is what placement counts with, not a limit on anything. */
const offering = (count: number): string[] => {
  const runs = count + WARM_UP
  return capacityArgs({ cpus: runs, runs, "memory-bytes": runs * MEMORY_BYTES * 2, pids: runs * 1024 })
}

/** Each container's monitor; its init and whatever that starts are below it. */
const isConmon = (commandLine: string): boolean => /^\S*conmon /.test(commandLine)
const isShim = (commandLine: string): boolean => /^\S*(containerd-shim\S*|docker-proxy) /.test(commandLine)

async function startOne(tenant: Client, made: string[], trails: Timings[]): Promise<number> {
  const body = {
    image: "localhost/hello",
    command: SLEEP,
    resources: { cpus: 1, memory_bytes: MEMORY_BYTES, disk_bytes: MIN_DISK_BYTES },
  }
  const from = performance.now()
  const container = await tenant.post<Container>("/v1/containers", body, { prefer: `wait=${WAIT_SECONDS}` })
  const ms = performance.now() - from
  made.push(container.id)
  if (container.status !== "running")
    throw new Error(`${container.id} is ${container.status}: ${container.reason?.message ?? "no reason given"}`)
  trails.push(container.run?.timings ?? {})
  return ms
}

async function removeAll(tenant: Client, made: string[], { say }: BenchContext): Promise<void> {
  if (made.length > WARM_UP) say(`removing ${made.length} containers`)
  const removals = Array.from({ length: PARALLEL_REMOVALS }, async () => {
    for (let id = made.pop(); id !== undefined; id = made.pop()) {
      await tenant.delete(`/v1/containers/${id}?force=true`)
      await tenant.get(`/v1/containers/${id}/wait?status=removed&timeout=${WAIT_SECONDS}`)
    }
  })
  await Promise.all(removals)
}

const Created = z.object({ Id: z.string() })

/** Its containers go with the daemon. */
async function measureDocker({ say, signal }: BenchContext, { api }: Dockerd, { image }: Workload, count: number) {
  say(`${count} containers of Docker`)
  const run = async () => {
    const { Id } = Created.parse(await api.call("POST", "/containers/create", { Image: image, Cmd: SLEEP }))
    await api.call("POST", `/containers/${Id}/start`)
  }
  for (let i = 0; i < WARM_UP; i++) await run()
  const [kernelBefore, helpersBefore] = [await kernelKib(), await processesUnder(isShim)]
  for (let i = 0; i < count; i++) {
    signal.throwIfAborted()
    await run()
  }
  const [kernelAfter, helpersAfter] = [await kernelKib(), await processesUnder(isShim)]
  return { count, cost: costOf(count, helpersAfter.pssKib - helpersBefore.pssKib, kernelAfter - kernelBefore) }
}

const costOf = (count: number, helpersKib: number, kernelPartsKib: number): Cost => ({
  mibEach: (helpersKib + kernelPartsKib) / 1024 / count,
  helpersMib: helpersKib / 1024 / count,
  kernelMib: kernelPartsKib / 1024 / count,
})

function rows(
  count: number,
  ours: { cost: Cost; edge: number; first: number; last: number } | undefined,
  docker: { count: number; cost: Cost } | undefined,
): Row[] {
  const mib = { unit: "MiB" }
  const peer_name = docker && `Docker, ${docker.count} containers`
  const beside = (part: keyof Cost) => ({ ours: ours?.cost[part] ?? null, peer: docker?.cost[part] ?? null, peer_name })
  return [
    rowOf({
      id: "density.mib_per_container",
      what: `memory of each of ${count} idle containers, all helpers counted`,
      ...mib,
      ours: ours?.cost.mibEach ?? null,
      bar: 2,
    }),
    rowOf({
      id: "density.last_vs_first",
      what: `start of the last ${ours?.edge ?? EDGE} of ${count}, p95`,
      unit: "ms",
      ours: ours?.last ?? null,
      peer: ours?.first ?? null,
      peer_name: `the first ${ours?.edge ?? EDGE}, p95`,
      bar: 1.3,
    }),
    rowOf({ id: "density.mib_vs_docker", what: "memory of each container", ...mib, ...beside("mibEach") }),
    rowOf({ id: "density.helpers_mib", what: "of it processes: init and monitor, PSS", ...mib, ...beside("helpersMib") }),
    rowOf({
      id: "density.kernel_mib",
      what: "of it the kernel's: slab, page tables, stacks, percpu",
      ...mib,
      ...beside("kernelMib"),
    }),
  ]
}
