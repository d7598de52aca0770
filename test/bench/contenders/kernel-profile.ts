/** How many functions of the kernel three apps go through, in each surrounding, as rows: the horizontal attack profile. */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import type { BenchContext } from "../harness/bench.ts"
import { atLeast, type Chain, frequencies, thinned } from "../harness/kernel-functions.ts"
import { output } from "../harness/process.ts"
import { type Row, rowOf } from "../harness/report.ts"
import { orderOfRound } from "../harness/stats.ts"
import { APPS, type StartsApps } from "./apps.ts"
import type { LoadImage } from "./load-image.ts"
import { profiled, SAMPLES_PER_SECOND } from "./profiled.ts"

type Who = StartsApps["name"]
type Chains = ReadonlyMap<Who, readonly Chain[]>

const PEERS = [
  { who: "docker", peer_name: "Docker's default" },
  { who: "host", peer_name: "a bare process" },
] as const

/** Rows of each app and of all together. Without perf, or an app, a note says so. */
export async function kernelProfile(
  context: BenchContext,
  contenders: readonly StartsApps[],
  image: LoadImage,
  notes: string[],
): Promise<Row[]> {
  if ((await output({ file: "perf", args: ["--version"] })) === null) {
    notes.push("functions of the kernel were not counted: perf is not installed (apt-get install linux-perf)")
    return []
  }
  const folder = join(context.scratch, "profiles")
  await mkdir(folder, { recursive: true })
  const rows: Row[] = []
  const all = new Map<Who, Chain[]>()
  for (const app of APPS) {
    const missing = app.needs.filter((program) => image.missing.includes(program))
    if (missing.length > 0) {
      notes.push(`${app.name} was not profiled: ${missing.join(", ")} not installed`)
      continue
    }
    context.say(`kernel functions of ${app.name}, ${context.rounds} rounds`)
    const chains = new Map<Who, Chain[]>(contenders.map(({ name }) => [name, []]))
    for (let round = 0; round < context.rounds; round++) {
      for (const contender of orderOfRound(contenders, round)) {
        const seen = await profiled(contender, app, folder, context.signal)
        chains.set(contender.name, [...(chains.get(contender.name) ?? []), ...seen])
      }
    }
    const equal = equalled(chains)
    for (const [who, some] of equal) all.set(who, [...(all.get(who) ?? []), ...some])
    rows.push(...rowsOf(app.name, `functions of the kernel that ${app.what} was in`, equal))
    notes.push(`${app.name}: ${estimates(equal)}`)
  }
  if (all.size === 0) return []
  notes.push(`all three: ${estimates(all)}`)
  notes.push(
    `functions of the kernel: those on the call chains that perf sampled ${SAMPLES_PER_SECOND} times a second by the processor's clock in the app's own processes, client and server, from the first signal to their end; a locked-down kernel refuses its function tracer. Short or rare functions are seen by chance, inlined ones never, and code that runs with interrupts off shows as its caller; samples of interrupts are dropped, softirqs in the app's time count; ours has its default limits and a disk of its own, Docker's no limits; everybody has equally many samples, and the estimate of what was missed is Chao's`,
  )
  return [...rows, ...rowsOf("all", "functions of the kernel that any of them was in", all)]
}

/** Each cut to as many samples as the one with the fewest has. */
function equalled(chains: Chains): Map<Who, readonly Chain[]> {
  const fewest = Math.min(...[...chains.values()].map(({ length }) => length))
  return new Map([...chains].map(([who, some]) => [who, thinned(some, fewest)]))
}

function rowsOf(name: string, what: string, chains: Chains): Row[] {
  const count = (who: Who) => {
    const some = chains.get(who)
    return some === undefined ? null : frequencies(some).size
  }
  return PEERS.filter(({ who }) => chains.has(who)).map(({ who, peer_name }) =>
    rowOf({
      id: `attack.functions_${name}${who === "host" ? "_vs_bare" : "_vs_docker"}`,
      what,
      unit: "functions",
      ours: count("berth"),
      peer: count(who),
      peer_name,
    }),
  )
}

function estimates(chains: Chains): string {
  const each = [...chains].map(([who, some]) => `${who} at least ${Math.round(atLeast(some.length, frequencies(some)))}`)
  return `${[...chains.values()][0]?.length ?? 0} samples each; seen or not, ${each.join(", ")}`
}
