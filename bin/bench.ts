/** `npm run bench -- NAME`: runs one bench of test/bench and prints what it found, as a table or as JSON. */
import { existsSync } from "node:fs"
import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { parseArgs } from "node:util"
import type { Bench, BenchContext } from "../test/bench/harness/bench.ts"
import { machineFacts } from "../test/bench/harness/machine.ts"
import { missesItsBar, type Report, toJson, toText } from "../test/bench/harness/report.ts"
import { openScratch } from "../test/bench/harness/scratch.ts"
import { Fault } from "./faults.ts"

const FOLDER = join(import.meta.dirname, "../test/bench")

const USAGE = `Usage: npm run bench -- NAME [--json] [--rounds N] [--count N] [--peers-only]

  --json        print the result as JSON; progress goes to standard error either way
  --rounds N    how often each contender is measured
  --count N     how many containers, where a bench is about many
  --peers-only  measure what Berth is compared with, without Berth

The exit code is 1 when a bar is missed. To pipe the JSON: npm run --silent bench -- NAME --json. Benches:
`

/** The shell's code for a program that a Ctrl-C ended. */
const INTERRUPTED = 130
/** A Ctrl-C reaches our children as well, and what comes of their end may be here before it. */
const SIGNAL_MS = 50

const say = (line: string) => process.stderr.write(`· ${line}\n`)

async function main(): Promise<number> {
  const { values, positionals } = readArguments()
  const [name, ...rest] = positionals
  if (values.help || name === undefined) {
    process.stdout.write(USAGE + (await listOfBenches()))
    return values.help ? 0 : 2
  }
  if (rest.length > 0) throw new Fault(`One bench at a time; “${rest.join(" ")}” is too much.`)
  const bench = await benchNamed(name)
  const rounds = values.rounds === undefined ? bench.rounds : Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Fault(`--rounds takes a number from 1 on, not “${values.rounds}”.`)
  const count = values.count === undefined ? undefined : Number(values.count)
  if (count !== undefined && (!Number.isInteger(count) || count < 1))
    throw new Fault(`--count takes a number from 1 on, not “${values.count}”.`)
  if (process.getuid?.() !== 0) throw new Fault("The benches run containers, which needs root: run them as root, or with sudo.")

  const { signal, sinceMs } = interruption()
  const scratch = await openScratch(say)
  try {
    const report = await measure(name, bench, {
      rounds,
      count,
      scratch,
      peersOnly: values["peers-only"],
      signal,
      say,
    })
    process.stdout.write(`${values.json ? toJson(report) : `\n${toText(report)}`}\n`)
    return report.rows.some(missesItsBar) ? 1 : 0
  } catch (error) {
    await delay(SIGNAL_MS)
    if (!signal.aborted) throw error // what fails after that fails for want of what was taken away
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  process.stderr.write(`bench: stopped, and what it had started taken away in ${(sinceMs() / 1000).toFixed(1)} s\n`)
  return INTERRUPTED
}

async function measure(name: string, bench: Bench, context: BenchContext): Promise<Report> {
  const machine = await machineFacts()
  return { bench: name, machine, ...(await bench.run(context)) }
}

async function benchNamed(name: string): Promise<Bench> {
  const file = join(FOLDER, `${name}.ts`)
  if (!/^[a-z0-9-]+$/.test(name) || !existsSync(file))
    throw new Fault(`There is no bench “${name}”. There are:\n${await listOfBenches()}`)
  const { bench } = (await import(file)) as { bench: Bench }
  return bench
}

async function listOfBenches(): Promise<string> {
  const names = (await readdir(FOLDER)).filter((file) => file.endsWith(".ts")).map((file) => file.slice(0, -".ts".length))
  const lines = await Promise.all(names.map(async (name) => `  ${name.padEnd(12)}  ${(await benchNamed(name)).what}\n`))
  return lines.join("")
}

/** Aborts at the first Ctrl-C or its kin, so that everything is taken away; a second one ends the process at once. */
function interruption(): { signal: AbortSignal; sinceMs(): number } {
  const controller = new AbortController()
  let at = 0
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(name, () => {
      at = performance.now()
      say(`${name}: taking everything away`)
      controller.abort(new Fault(`Stopped by ${name}.`))
    })
  return { signal: controller.signal, sinceMs: () => performance.now() - at }
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        rounds: { type: "string" },
        count: { type: "string" },
        "peers-only": { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    })
  } catch (error) {
    throw new Fault(
      `${error instanceof Error ? error.message : String(error)}\n\n${USAGE}${"  (npm run bench -- --help lists them)"}`,
    )
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  process.exitCode = 1
  console.error(error instanceof Fault ? `bench: ${error.message}` : error)
}
// Idle keep-alive sockets would hold the process for seconds.
process.exit()
