/** What `npm start` shows: one line per step with its time, plain when it is not a terminal. */

const NAME_WIDTH = 15

export class Screen {
  readonly #out: NodeJS.WriteStream
  readonly #verbose: boolean
  #since = performance.now()

  constructor(out: NodeJS.WriteStream, verbose: boolean) {
    this.#out = out
    this.#verbose = verbose
  }

  title(name: string, what: string): void {
    this.#line(`\n${this.#bold(name)}  ${what}\n`)
    this.begin()
  }

  /** Starts the clock of the next `done`. */
  begin(): void {
    this.#since = performance.now()
  }

  done(name: string, detail: string): void {
    const ms = performance.now() - this.#since
    this.#line(`  ${this.#green("✓")} ${name.padEnd(NAME_WIDTH)} ${detail}  ${this.#dim(duration(ms))}`)
    this.begin()
  }

  async step<T>(name: string, detail: string, work: () => Promise<T>): Promise<T> {
    this.begin()
    if (this.#out.isTTY) this.#out.write(`  · ${name} …\r`)
    const result = await work()
    this.done(name, detail)
    return result
  }

  /** Lines that belong to the step above, each marked with what they are. */
  block(name: string, lines: readonly string[]): void {
    for (const [i, line] of lines.entries())
      this.#line(`    ${this.#dim((i === 0 ? name : "").padEnd(NAME_WIDTH - 2))} ${this.#dim("│")} ${line}`)
  }

  invitation(url: string, envFile: string): void {
    this.#line(`
Berth is up at ${this.#bold(url)} (documentation: ${url}/docs). Ctrl-C stops it. In another shell:

  set -a; . ${envFile}; set +a
  curl -s $BERTH_URL/v1/containers -H "Authorization: Bearer $BERTH_TOKEN" --json '{"image":"localhost/hello","name":"web","command":["httpd","-f","-p","80"]}'
  curl -s $BERTH_URL/v1/containers/web/isolation -H "Authorization: Bearer $BERTH_TOKEN"
  curl -s -X DELETE "$BERTH_URL/v1/containers/web?force" -H "Authorization: Bearer $BERTH_TOKEN"
`)
  }

  log(line: string): void {
    if (this.#verbose) this.#line(this.#dim(`    ${line}`))
  }

  #line(text: string): void {
    this.#out.write(`${this.#out.isTTY ? "\x1b[2K" : ""}${text}\n`)
  }
  #paint(code: number, text: string): string {
    return this.#out.isTTY ? `\x1b[${code}m${text}\x1b[0m` : text
  }
  #bold = (text: string) => this.#paint(1, text)
  #dim = (text: string) => this.#paint(2, text)
  #green = (text: string) => this.#paint(32, text)
}

/** 7.3 ms, 412 ms, 2.1 s. */
export function duration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`
}
