/** What a bench is. Each file `test/bench/NAME.ts` exports one as `bench`; `npm run bench -- NAME` runs it. */
import type { Row } from "./report.ts"

export interface BenchContext {
  /** How often each contender is measured, after one round that does not count. */
  readonly rounds: number
  /** How many containers, where a bench is about many; undefined for its own number. */
  readonly count: number | undefined
  /** A folder of this run's own, deleted at its end. */
  readonly scratch: string
  /** Measure the others alone. */
  readonly peersOnly: boolean
  /** Aborted when the user wants to stop; a bench then takes away what it made. */
  readonly signal: AbortSignal
  /** Progress, for a person. */
  say(line: string): void
}

export interface BenchResult {
  readonly rows: readonly Row[]
  readonly trail: Readonly<Record<string, number>> | null
  readonly notes: readonly string[]
}

export interface Bench {
  /** One line for the list of benches. */
  readonly what: string
  readonly rounds: number
  run(context: BenchContext): Promise<BenchResult>
}

/** Something that is measured against others. */
export interface Contender {
  readonly name: string
  /** Does the thing once and answers milliseconds by the name of the series they belong to. */
  once(): Promise<Readonly<Record<string, number>>>
  /** Takes away what `once` left, before the next one's turn; not measured. */
  tidy(): Promise<void>
}
