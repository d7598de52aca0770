/** Runs `npm start`'s program, or another of `bin`, as a child, as a person at a terminal would, and reads what it prints. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { waitFor } from "./wait-for.ts"

const BIN = join(import.meta.dirname, "../../bin")

export interface Started {
  readonly process: ChildProcess
  output(): string
  /** Resolves with what it printed once `pattern` is in it; rejects when it ends before. */
  prints(pattern: RegExp, timeoutMs?: number): Promise<string>
  ended(timeoutMs?: number): Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

export function start(args: readonly string[], program = "start.ts", env: NodeJS.ProcessEnv = {}): Started {
  // Its own group, so that a test can send Ctrl-C to the group as a terminal does.
  const child = spawn(process.execPath, [join(BIN, program), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    env: { ...process.env, ...env },
  })
  let output = ""
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()))
  const exit = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal })),
  )
  let done = false
  void exit.then(() => (done = true))
  return {
    process: child,
    output: () => output,
    prints: (pattern, timeoutMs = 60_000) =>
      waitFor(
        `${pattern} in:\n${output}`,
        () => {
          if (pattern.test(output)) return output
          if (done) throw new Error(`It ended before it printed ${pattern}:\n${output}`)
          return undefined
        },
        timeoutMs,
      ),
    ended: async (timeoutMs = 60_000) => {
      await waitFor(`the end of ${program}; it printed:\n${output}`, () => done, timeoutMs)
      return await exit
    },
  }
}

/** The variables of a state folder's env file. */
export function envOf(state: string): Record<string, string> {
  const lines = readFileSync(join(state, "env"), "utf8").trim().split("\n")
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]))
}
