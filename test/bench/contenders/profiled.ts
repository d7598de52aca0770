/**
 * Runs an app under `perf record` and answers the call chains of the kernel that its processes were in. The function tracer would
 * see every call, but a locked-down kernel, as here, refuses it; sampling by the processor's clock is let be.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { rm } from "node:fs/promises"
import type { Readable, Writable } from "node:stream"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Chain, chainsIn } from "../harness/kernel-functions.ts"
import { command, exitOf, output } from "../harness/process.ts"
import type { App, StartsApps } from "./apps.ts"
import { statusOf } from "./init-process.ts"

/** Each sample takes about 20 µs of the app's own time: beyond this it does little else. */
export const SAMPLES_PER_SECOND = 20_000
const LONGEST_SECONDS = 60
const TRAP_MS = 10_000
/** In SigCgt, whose lowest bit is signal 1. */
const SIGUSR1_CAUGHT = 1n << 9n

export async function profiled(startsApps: StartsApps, app: App, folder: string, signal: AbortSignal): Promise<Chain[]> {
  signal.throwIfAborted()
  await using cleanup = new AsyncDisposableStack()
  const waiting = await startsApps.start(app)
  cleanup.defer(() => waiting.remove())
  await catchesSignal(waiting.pid)
  const file = join(folder, "perf.data")
  cleanup.defer(() => rm(file, { force: true }))
  const perf = await record(waiting.pid, file, signal)
  process.kill(waiting.pid, "SIGUSR1")
  const code = await perf.ended
  signal.throwIfAborted()
  if (code !== 0) throw new Error(`perf ended with ${code} over ${app.name}: ${perf.errors()}`)
  await waiting.ended()
  const script = await output(command("perf", "script", "--input", file, "-F", "ip,sym", "--no-inline"), signal)
  const chains = chainsIn(script ?? "")
  if (chains.length === 0) throw new Error(`perf saw nothing of ${app.name}`)
  return chains
}

async function catchesSignal(pid: number): Promise<void> {
  const deadline = Date.now() + TRAP_MS
  const caught = () => BigInt(`0x${/^SigCgt:\s+([0-9a-f]+)/m.exec(statusOf(pid))?.[1] ?? "0"}`)
  while ((caught() & SIGUSR1_CAUGHT) === 0n) {
    if (Date.now() > deadline) throw new Error(`process ${pid} does not wait for its signal`)
    await sleep(20)
  }
}

/** Resolves once it samples; it ends by itself with the last process that it follows. */
async function record(pid: number, file: string, signal: AbortSignal) {
  const follow = ["--pid", String(pid), "-e", "cpu-clock:k", "-F", String(SAMPLES_PER_SECOND), "-g", "--kernel-callchains"]
  const leaveNothing = ["--no-buildid", "--no-buildid-cache"]
  const tied = ["--pdeathsig", "KILL", "timeout", "--signal=KILL", String(LONGEST_SECONDS)]
  const how = ["--mmap-pages", "4M", "--delay=-1", "--control=fd:3,4", "--output", file]
  const perf = spawn("setpriv", [...tied, "perf", "record", ...follow, ...leaveNothing, ...how], {
    stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
    signal,
    killSignal: "SIGTERM",
  })
  const ended = exitOf(perf).catch(() => null) // aborted
  let errors = ""
  perf.stderr?.setEncoding("utf8").on("data", (text: string) => (errors = (errors + text).slice(-500)))
  const [control, answers] = pipesOf(perf)
  control.on("error", () => {}) // it ended first, and says why
  const begun = once(answers, "data")
  control.write("enable\n")
  await Promise.race([
    begun,
    ended.then((code) => {
      signal.throwIfAborted()
      throw new Error(`perf could not follow process ${pid} (${code}): ${errors}`)
    }),
  ])
  return { ended, errors: () => errors }
}

function pipesOf({ stdio }: ChildProcess): [Writable, Readable] {
  return [stdio[3] as Writable, stdio[4] as Readable]
}
