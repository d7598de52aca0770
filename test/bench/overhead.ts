/** What confinement costs a program while it runs: the same bytes in a container, in Docker's, and as a bare process of the host. */
import { mkdir } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { layoutOf } from "../../bin/platform.ts"
import { dockerOrNote } from "./contenders/docker-beside.ts"
import { makeLoadImage } from "./contenders/load-image.ts"
import { inBerth, inDocker, LOADS, onTheHost } from "./contenders/loads.ts"
import { startOurs } from "./contenders/our-platform.ts"
import type { Bench } from "./harness/bench.ts"
import { type Row, rowOf } from "./harness/report.ts"
import { alternate, type Series } from "./harness/rounds.ts"
import { median } from "./harness/stats.ts"

const BAR = 1.02

/** Two containers at once, neither held up by a limit: capacity is what placement counts with, not a limit on anything. */
const OFFERING = ["--capacity-cpus", String(2 * availableParallelism())]

const DISK = "root: ext4 in an image file of each container's own"
/** What each load is, and the bar on it. Disks have none: a quota by image file is a second file system on the way. */
const WHAT: Readonly<Record<string, { id: string; what: string; bar: number | null }>> = {
  cpu: { id: "cpu", what: "250 million steps of xorshift", bar: BAR },
  memory: { id: "memory", what: "2.5 GiB copied in memory", bar: BAR },
  fork: { id: "fork", what: "600 × fork, exec, wait", bar: null },
  stream: { id: "network", what: "1 GiB over loopback TCP", bar: BAR },
  requests: { id: "network_requests", what: "40,000 requests of 1 byte over loopback TCP", bar: BAR },
  between_stream: { id: "between", what: "1 GiB over TCP from container to container, against loopback outside", bar: null },
  between_requests: {
    id: "between_requests",
    what: "40,000 requests of 1 byte over TCP from container to container, against loopback outside",
    bar: null,
  },
  synced: { id: "disk", what: `800 × 4 KiB written and fdatasync, ${DISK}`, bar: null },
  sequential: { id: "disk_sequential", what: `384 MiB written and fdatasync, ${DISK}`, bar: null },
  redis: { id: "redis", what: "60,000 GETs of redis-benchmark, 20 clients, over loopback", bar: null },
  nginx: { id: "nginx", what: "50,000 requests of wrk to nginx, 16 connections, over loopback", bar: null },
}

export const bench: Bench = {
  what: "CPU, memory, fork, network, disk, redis and nginx in a container, in Docker's, and outside",
  rounds: 5,
  async run(context) {
    await using cleanup = new AsyncDisposableStack()
    const notes: string[] = []
    const state = join(context.scratch, "state")
    const files = join(state, "bare")
    const image = await makeLoadImage(layoutOf(state).images, join(context.scratch, "loads"))
    await mkdir(files, { recursive: true })
    const platform = context.peersOnly ? undefined : await startOurs(context, state, cleanup, OFFERING)
    const dockerd = await dockerOrNote(context, cleanup, image.archive, notes)
    const rows: Row[] = []
    for (const load of LOADS) {
      const missing = (load.needs ?? []).filter((program) => image.missing.includes(program))
      if (missing.length > 0) {
        notes.push(`${load.name} was not measured: ${missing.join(", ")} not installed`)
        continue
      }
      context.say(`${load.name}, ${context.rounds} rounds`)
      const contenders = [
        ...(platform ? [inBerth(platform.tenant, image, load)] : []),
        onTheHost(image, files, load, context.signal),
        ...(dockerd ? [inDocker(dockerd, image, load)] : []),
      ]
      const series = await alternate(contenders, context.rounds, { signal: context.signal, say: () => {} })
      rows.push(...rowsOf(load.name, series))
    }
    notes.push("no container has a limit that holds it up: each may use all processors; a start is not in any figure")
    return { rows, trail: null, notes }
  },
}

function rowsOf(name: string, series: Series): Row[] {
  const known = WHAT[name]
  if (known === undefined) return []
  const { id, what, bar } = known
  const ours = series.of(`berth.${name}`, median)
  const unit = "ms"
  const docker = series.of(`docker.${name}`, median)
  return [
    rowOf({ id: `overhead.${id}`, what, unit, ours, peer: series.of(`host.${name}`, median), peer_name: "a bare process", bar }),
    ...(docker === null
      ? []
      : [rowOf({ id: `overhead.${id}_vs_docker`, what, unit, ours, peer: docker, peer_name: "docker run" })]),
  ]
}
