/** What the whole control plane makes of creates and of idle nodes: HTTP in front, simulated nodes behind, nothing left out between. */
import { randomUUID } from "node:crypto"
import { mkdir, readdir, readFile, stat } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Client, clientOf } from "../../../bin/client.ts"
import { startControlPlane } from "../../../bin/control-plane.ts"
import { makeSecretsKey, makeSigningKey, signOperatorToken } from "../../../bin/keys.ts"
import { BatchAnswer } from "../../../schema/api.ts"
import type { Tenant } from "../../../schema/api.ts"
import { MIB } from "../../../schema/container.ts"
import type { BenchContext } from "../harness/bench.ts"
import { ownWorkerd } from "./driven-cell.ts"
import type { SimulatedNodes, Tally } from "./simulated-nodes.ts"

const TOKEN_SECONDS = 3600
/** The last run of a load is placed and told of long before, or never. */
const PATIENCE_MS = 60_000
const LOOK_MS = 5
export const PLENTY = { containers: 1_000_000, cpus: 1_000_000, memory_bytes: 1e15, disk_bytes: 1e15, creates_per_minute: 1e9 }
const CONTAINER = {
  image: "registry.example/app:1",
  resources: { cpus: 0.1, memory_bytes: 16 * MIB, pids: 16, disk_bytes: 16 * MIB },
}
/** The kernel's clock tick, in which it counts processor time (sysconf CLK_TCK). */
const TICKS_PER_SECOND = 100

export interface WholePlatform {
  readonly url: string
  readonly operator: Client
  readonly tenant: Client
  readonly databases: string
}

export async function startWhole(
  { say, signal }: BenchContext,
  folder: string,
  cleanup: AsyncDisposableStack,
): Promise<WholePlatform> {
  signal.throwIfAborted()
  await mkdir(folder, { recursive: true })
  const state = join(folder, "state")
  const signingKey = await makeSigningKey()
  say("starting the control plane")
  const platform = await startControlPlane({
    state,
    port: 0,
    signingKey,
    secretsKey: makeSecretsKey(),
    issuerFile: join(folder, "issuer"),
  })
  let stopped: Promise<void> | undefined
  const stop = () => (stopped ??= platform.stop())
  const cutOff = () => void stop().catch(() => {}) // whoever awaits an answer is told
  signal.addEventListener("abort", cutOff)
  cleanup.defer(async () => {
    signal.removeEventListener("abort", cutOff)
    await stop()
  })
  const { url, issuer } = platform
  const operator = clientOf(url, await signOperatorToken(signingKey, issuer, "bench", TOKEN_SECONDS))
  const { id } = await operator.post<Tenant>("/v1/admin/tenants", { name: "bench", quota: PLENTY })
  const token = { subject: "bench", expires_in_seconds: TOKEN_SECONDS }
  const { access_token } = await operator.post<{ access_token: string }>(`/v1/admin/tenants/${id}/tokens`, token)
  return { url, operator, tenant: clientOf(url, access_token), databases: state }
}

export interface Through {
  readonly runs: number
  readonly requests: number
  /** From the first request to the last answer, assignment and acknowledged report. */
  readonly acceptedMs: number
  readonly assignedMs: number
  readonly acknowledgedMs: number
  readonly callMs: readonly number[]
}

/** `count` containers, one a request, so many requests at once. */
export const createSingly = (
  platform: WholePlatform,
  nodes: SimulatedNodes,
  count: number,
  atOnce: number,
  signal: AbortSignal,
) =>
  through(nodes.tally, count, signal, async (timed) => {
    let left = count
    const caller = async () => {
      while (left-- > 0) await timed(() => platform.tenant.post("/v1/containers", CONTAINER, keyed()))
    }
    await Promise.all(Array.from({ length: atOnce }, caller))
  })

/** The same by batches of `each`, one after the other. */
export const createInBatches = (
  platform: WholePlatform,
  nodes: SimulatedNodes,
  batches: number,
  each: number,
  signal: AbortSignal,
) =>
  through(nodes.tally, batches * each, signal, async (timed) => {
    for (let i = 0; i < batches; i++) {
      const answer = await timed(() =>
        platform.tenant.post("/v1/containers:batch", { count: each, container: CONTAINER }, keyed()),
      )
      const { items } = BatchAnswer.parse(answer)
      if (items.length !== each) throw new Error(`a batch of ${each} made ${items.length}`)
    }
  })

const keyed = () => ({ "idempotency-key": randomUUID() })

async function through(
  tally: Tally,
  runs: number,
  signal: AbortSignal,
  work: (timed: <T>(call: () => Promise<T>) => Promise<T>) => Promise<void>,
): Promise<Through> {
  const before = { ...tally }
  const callMs: number[] = []
  const from = performance.now()
  const since = () => performance.now() - from
  const reached = async (what: "assigned" | "acknowledged") => {
    while (tally[what] - before[what] < runs) {
      signal.throwIfAborted()
      if (since() > PATIENCE_MS)
        throw new Error(`${tally[what] - before[what]} of ${runs} runs were ${what} after ${PATIENCE_MS} ms`)
      await sleep(LOOK_MS)
    }
    return since()
  }
  const timed = async <T>(call: () => Promise<T>): Promise<T> => {
    const began = performance.now()
    const answer = await call()
    callMs.push(performance.now() - began)
    return answer
  }
  const accepted = async () => {
    await work(timed)
    return since()
  }
  const [acceptedMs, assignedMs, acknowledgedMs] = await Promise.all([accepted(), reached("assigned"), reached("acknowledged")])
  return { runs, requests: callMs.length, acceptedMs, assignedMs, acknowledgedMs, callMs }
}

export interface Idle {
  readonly seconds: number
  /** Databases that were written meanwhile: of nodes, cells, tenants and the directory. */
  readonly written: number
  readonly messages: number
  readonly heartbeats: number
  /** Of workerd. */
  readonly cpuMs: number
}

/** Watches nodes that have nothing to do. */
export async function watchIdle(
  { databases }: WholePlatform,
  nodes: SimulatedNodes,
  seconds: number,
  signal: AbortSignal,
): Promise<Idle> {
  const before = { files: await stamps(databases), tally: { ...nodes.tally }, cpuMs: await workerdCpuMs() }
  await sleep(seconds * 1000, undefined, { signal })
  const cpuMs = (await workerdCpuMs()) - before.cpuMs
  const after = await stamps(databases)
  const written = [...after]
    .filter(([file, stamp]) => before.files.get(file) !== stamp)
    .map(([file]) => file.replace(/-(wal|shm)$/, ""))
  const { messages, heartbeats } = before.tally
  return {
    seconds,
    written: new Set(written).size,
    messages: nodes.tally.messages - messages,
    heartbeats: nodes.tally.heartbeats - heartbeats,
    cpuMs,
  }
}

/** When and to what size each database and its journal were last written; what only readers touch is left out. */
async function stamps(folder: string): Promise<Map<string, string>> {
  const files = await readdir(folder, { recursive: true })
  const known = files.filter((file) => /\.sqlite(-wal)?$/.test(file))
  const stamped = await Promise.all(
    known.map(async (file) => {
      const { mtimeMs, size } = await stat(join(folder, file))
      return [file, `${mtimeMs} ${size}`] as const
    }),
  )
  return new Map(stamped)
}

async function workerdCpuMs(): Promise<number> {
  const { pids } = await ownWorkerd()
  const times = await Promise.all(
    pids.map(async (pid) => {
      // After the name in brackets, which may hold spaces: utime and stime are the 12th and 13th field (proc_pid_stat(5)).
      const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\) /, "").split(" ")
      return Number(fields[11]) + Number(fields[12])
    }),
  )
  return (times.reduce((sum, ticks) => sum + ticks, 0) * 1000) / TICKS_PER_SECOND
}
