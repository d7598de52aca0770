/**
 * The one place that starts processes. A program is named by a path or a bare name and given an argv array: there is no
 * shell, so nothing that a tenant wrote can become syntax. Every call has a time limit and an output limit.
 */
import { spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { Socket } from "node:net"
import type { Readable } from "node:stream"
import { spawnDaemon } from "../native/posix-spawn.ts"

export interface ExecOptions {
  /** The process is killed after this long. */
  readonly timeoutMs: number
  /** Bytes kept of each stream; what comes after is read and dropped. Default 64 KiB. */
  readonly maxOutputBytes?: number
  readonly input?: string | Uint8Array
  readonly cwd?: string
  /** The whole environment; default: PATH alone. */
  readonly env?: Readonly<Record<string, string>>
  /** Kills the process; `exec` then rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

export interface ExecResult {
  /** The exit code; null when a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A program that could not be started, or did not end in time. */
export class ExecError extends Error {
  readonly kind: "not_started" | "timeout"
  constructor(kind: "not_started" | "timeout", message: string, cause?: unknown) {
    super(message, { cause })
    this.name = "ExecError"
    this.kind = kind
  }
}

const DEFAULT_MAX_OUTPUT_BYTES = 64 * 1024
/** Bridges started by a service manager may have no PATH; the tools live in these places on every distribution we know. */
const TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
/** `BERTH_TOOLS` names a directory that comes first: an operator's own builds of conmon, crun, skopeo and the like. */
const FIRST = process.env["BERTH_TOOLS"]
export const TOOL_ENV: Readonly<Record<string, string>> = {
  PATH: FIRST === undefined || FIRST === "" ? TOOL_PATH : `${FIRST}:${TOOL_PATH}`,
  LC_ALL: "C",
}

/** Runs a program to its end. A non-zero exit is a result; rejects with `ExecError`, or the signal's reason when aborted. */
export function exec(file: string, args: readonly string[], options: ExecOptions): Promise<ExecResult> {
  const { promise, resolve, reject } = Promise.withResolvers<ExecResult>()
  if (options.signal?.aborted) return Promise.reject(options.signal.reason as Error)
  const child = spawn(file, [...args], {
    cwd: options.cwd,
    env: options.env ?? TOOL_ENV,
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  })
  const limit = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES
  const stdout = collect(child.stdout, limit)
  const stderr = collect(child.stderr, limit)
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    child.kill("SIGKILL")
  }, options.timeoutMs)
  const abort = () => child.kill("SIGKILL")
  options.signal?.addEventListener("abort", abort, { once: true })
  const settle = () => {
    clearTimeout(timer)
    options.signal?.removeEventListener("abort", abort)
  }
  child.once("error", (error) => {
    settle()
    reject(new ExecError("not_started", `${file} could not be started: ${error.message}`, error))
  })
  child.once("close", (code) => {
    settle()
    if (options.signal?.aborted) reject(options.signal.reason as Error)
    else if (timedOut) reject(new ExecError("timeout", `${file} did not end within ${options.timeoutMs} ms`))
    else resolve({ code, stdout: stdout(), stderr: stderr() })
  })
  if (child.stdin !== null && options.input !== undefined) {
    child.stdin.on("error", () => {}) // it may end without reading all: its exit code says what matters
    child.stdin.end(options.input)
  }
  return promise
}

export interface Detached {
  /** None when it could not be started. */
  readonly pid: number | undefined
  /** Both ends of extra pipes, in the child from descriptor 3 on. */
  readonly pipes: readonly Readable[]
  /** Resolves with the exit code of the process that was started, which may have left others behind. */
  readonly exited: Promise<number | null>
  /** What it wrote to standard error so far, cut at 16 KiB. */
  readonly stderr: () => string
}

const DETACHED_STDERR_BYTES = 16 * 1024

/** Starts a program in a session of its own, so that it outlives this process and its terminal. */
export function startDetached(
  file: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>>; readonly pipes: number },
): Detached {
  const { promise, resolve, reject } = Promise.withResolvers<number | null>()
  const extra = Array.from({ length: options.pipes }, () => "pipe" as const)
  const child: ChildProcess = spawn(file, [...args], {
    cwd: options.cwd,
    env: { ...TOOL_ENV, ...options.env },
    detached: true,
    stdio: ["ignore", "ignore", "pipe", ...extra],
  })
  child.once("error", (error) => reject(new ExecError("not_started", `${file} could not be started: ${error.message}`, error)))
  child.once("exit", (code) => resolve(code))
  const stderr = collect(child.stderr, DETACHED_STDERR_BYTES)
  const pipes = child.stdio.slice(3).filter((pipe) => pipe !== null && pipe !== undefined) as unknown as Readable[]
  child.unref()
  if (child.stderr instanceof Socket) child.stderr.unref()
  return { pid: child.pid, pipes, exited: promise, stderr }
}

export interface StartedDaemon {
  /** What the program and its daemon write to descriptor 3. */
  readonly sync: Readable
  readonly stderr: () => string
}

/** Starts a program, named by its path, that leaves a daemon behind and ends; nobody is told of the daemon's end. */
export function startDaemon(
  file: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
): StartedDaemon {
  try {
    const { sync, stderr } = spawnDaemon(file, args, { cwd: options.cwd, env: { ...TOOL_ENV, ...options.env } })
    return { sync, stderr: collect(stderr, DETACHED_STDERR_BYTES) }
  } catch (error) {
    throw new ExecError("not_started", `${file} could not be started: ${String(error)}`, error)
  }
}

function collect(stream: Readable | null, limit: number): () => string {
  const chunks: Buffer[] = []
  let size = 0
  stream?.on("error", () => {})
  stream?.on("data", (chunk: Buffer) => {
    if (size < limit) chunks.push(chunk.subarray(0, limit - size))
    size += chunk.length
  })
  return () => Buffer.concat(chunks).toString("utf8")
}
