/** Programs that a bench runs or keeps running. Not the product's `exec`: that waits for the pipes, which a container inherits. */
import { type ChildProcess, spawn } from "node:child_process"

const STDERR_BYTES = 4096

export interface Command {
  readonly file: string
  readonly args: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

/** Of a program that lasts: it runs as a process group of its own, which is killed when this is aborted. */
type Ended = AbortSignal | undefined

export const command = (file: string, ...args: readonly string[]): Command => ({ file, args })

/** Runs a program and answers the milliseconds until it has exited. A failure rejects with what it wrote to standard error. */
export async function timed({ file, args, env = process.env }: Command): Promise<number> {
  const from = performance.now()
  const child = spawn(file, args, { env, stdio: ["ignore", "ignore", "pipe"] })
  let stderr = ""
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (stderr.length < STDERR_BYTES) stderr += text
  })
  const code = await exitOf(child)
  const ms = performance.now() - from
  child.stderr.destroy()
  if (code !== 0) throw new Error(`${file} ${args.slice(0, 6).join(" ")} … ended with ${code}: ${stderr.trim()}`)
  return ms
}

/** What a program prints; null when it cannot be run or fails. Aborted, it rejects with the reason. */
export async function output({ file, args, env = process.env }: Command, ended?: Ended): Promise<string | null> {
  const child = spawn(file, args, { env, stdio: ["ignore", "pipe", "ignore"], detached: ended !== undefined })
  using _ = ended && endedWith(ended, child)
  let text = ""
  child.stdout.setEncoding("utf8").on("data", (part: string) => (text += part))
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const code = await exitOf(child).catch(() => null)
  ended?.throwIfAborted()
  if (code !== 0) return null
  await closed
  return text
}

/** The exit code, or 128 for a signal. Rejects when the program could not be started. */
export function exitOf(child: ChildProcess): Promise<number> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode ?? 128)
  return new Promise((resolve, reject) => {
    child.once("error", reject)
    child.once("exit", (code) => resolve(code ?? 128))
  })
}

function endedWith(signal: AbortSignal, child: ChildProcess): Disposable {
  const kill = () => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL")
  }
  signal.addEventListener("abort", kill)
  if (signal.aborted) kill()
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", kill) }
}
