/** What a server under steady light load feels of another tenant's container that is at all of its limits at once. */
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { clientOf } from "../../bin/client.ts"
import { layoutOf, type Platform } from "../../bin/platform.ts"
import type { Tenant } from "../../schema/api.ts"
import { dockerOrNote } from "./contenders/docker-beside.ts"
import { LIMITS, onBerth, onDocker, type Limited, type StartLimited } from "./contenders/limited.ts"
import { startOurs } from "./contenders/our-platform.ts"
import { makeWorkload } from "./contenders/workload.ts"
import type { Bench, Contender } from "./harness/bench.ts"
import { command, output, timed } from "./harness/process.ts"
import { type Row, rowOf } from "./harness/report.ts"
import { alternate, type Series } from "./harness/rounds.ts"
import { median, quantile } from "./harness/stats.ts"

const CLIENT_SOURCE = join(import.meta.dirname, "programs/steady-client.c")
const PORT = 8080
const PER_SECOND = 100
const SECONDS = 5
/** Until the other container is at all of its limits. */
const RISE_MS = 1_500

const DOCKER_IS_LIMITED =
  "Docker has the same limits, but none for the rate of a log, which its daemon then copies with the host's time"

const SERVER = ["/bin/sh", "-c", `echo hello > /tmp/index.html; exec httpd -f -p ${PORT} -h /tmp`]
/** Processor, memory, disk, log and processes, for ever. */
const GREEDY = [
  "/bin/sh",
  "-c",
  [
    "while :; do :; done &",
    "while :; do head -c 60000000 /dev/zero | tail -c 60000000 >/dev/null; done &",
    "while :; do dd if=/dev/zero of=/file bs=64k count=64 conv=fsync 2>/dev/null; done &",
    "yes 'a line of a log, of a usual length, again and again and again' &",
    "while :; do sleep 5 & done 2>/dev/null &", // its shell ends at the first that it may not have
    "while :; do sleep 1; done",
  ].join("\n"),
]

export const bench: Bench = {
  what: "a server's p99 beside another tenant's container at all of its limits, against the same alone",
  rounds: 5,
  async run(context) {
    await using cleanup = new AsyncDisposableStack()
    const notes = [
      `both containers: ${LIMITS.cpus} processors, ${LIMITS.memory_bytes / 1024 ** 2} MiB, ${LIMITS.pids} processes, ${LIMITS.io.write_bytes_per_second / 1024 ** 2} MiB/s of disk; the client asks ${PER_SECOND} times a second, outside of both and before both`,
    ]
    const state = join(context.scratch, "state")
    const workload = await makeWorkload(layoutOf(state).images, join(context.scratch, "workload"))
    const client = join(context.scratch, "steady-client")
    await timed(command("gcc", "-static", "-O2", "-Wall", "-Werror", "-o", client, CLIENT_SOURCE))
    const asking = (victim: Limited) => latencies(client, victim, context.signal)
    const contenders: Contender[] = []
    if (!context.peersOnly) {
      const platform = await startOurs(context, state, cleanup)
      contenders.push(beside("berth", asking, context.signal, onBerth(platform.tenant), onBerth(await otherTenant(platform))))
    }
    const dockerd = await dockerOrNote(context, cleanup, workload.archive, notes, DOCKER_IS_LIMITED)
    if (dockerd) {
      const docker = onDocker(dockerd, workload, context.scratch)
      contenders.push(beside("docker", asking, context.signal, docker, docker))
    }
    return { rows: rows(await alternate(contenders, context.rounds, context)), trail: null, notes }
  },
}

type Asking = (victim: Limited) => Promise<number[]>

/** One turn: the server alone, then with the greedy one. */
function beside(name: string, asking: Asking, signal: AbortSignal, ofVictim: StartLimited, ofGreedy: StartLimited): Contender {
  const running: Limited[] = []
  return {
    name,
    once: async () => {
      const victim = await ofVictim(SERVER)
      running.push(victim)
      const alone = await asking(victim)
      running.push(await ofGreedy(GREEDY))
      await sleep(RISE_MS, undefined, { signal })
      const both = await asking(victim)
      const p99 = { alone: quantile(alone, 0.99), both: quantile(both, 0.99) }
      return {
        [`${name}.alone.p99`]: p99.alone,
        [`${name}.both.p99`]: p99.both,
        [`${name}.alone.p50`]: median(alone),
        [`${name}.both.p50`]: median(both),
        [`${name}.growth`]: p99.both / p99.alone,
      }
    },
    tidy: async () => {
      await Promise.all(running.splice(0).map((each) => each.remove()))
    },
  }
}

/** The client stands for a machine of its own: at real-time priority it waits for neither container, so all delay is the server's. */
async function latencies(client: string, { pid }: Limited, signal: AbortSignal): Promise<number[]> {
  const words = [`--net=/proc/${pid}/ns/net`, "chrt", "--fifo", "10", client, PORT, PER_SECOND, SECONDS].map(String)
  const printed = await output({ file: "nsenter", args: words }, signal)
  if (printed === null) throw new Error("the client could not be run in the server's network")
  return JSON.parse(printed) as number[]
}

async function otherTenant({ operator, url }: Platform) {
  const { id } = await operator.post<Tenant>("/v1/admin/tenants", { name: "neighbour" })
  const asked = { subject: "owner", expires_in_seconds: 3_600 }
  const { access_token } = await operator.post<{ access_token: string }>(`/v1/admin/tenants/${id}/tokens`, asked)
  return clientOf(url, access_token)
}

function rows(series: Series): Row[] {
  const ms = { unit: "ms" }
  const of = (name: string) => series.of(name, median)
  const alone = "the same, alone"
  return [
    rowOf({
      id: "neighbour.p99",
      what: "p99 of a server beside another tenant at its limits",
      ...ms,
      ours: of("berth.both.p99"),
      peer: of("berth.alone.p99"),
      peer_name: alone,
      bar: 1.1,
    }),
    rowOf({
      id: "neighbour.p50",
      what: "p50",
      ...ms,
      ours: of("berth.both.p50"),
      peer: of("berth.alone.p50"),
      peer_name: alone,
    }),
    rowOf({
      id: "neighbour.growth_vs_docker",
      what: "growth of the p99",
      unit: "×",
      ours: of("berth.growth"),
      peer: of("docker.growth"),
      peer_name: "Docker, same limits",
    }),
    rowOf({
      id: "neighbour.p99_vs_docker",
      what: "p99 beside the other tenant",
      ...ms,
      ours: of("berth.both.p99"),
      peer: of("docker.both.p99"),
      peer_name: "Docker, same limits",
    }),
  ]
}
