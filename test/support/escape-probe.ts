/**
 * The probe of the escape tests, tried from three places: inside a container; with one or more of its fences taken away, by
 * entering what is left of them; and on the host in throw-away namespaces, where all of it succeeds.
 */
import { execFile } from "node:child_process"
import { chmodSync, copyFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import type { Assignment } from "../../schema/protocol.ts"
import type { HostBench } from "./host-bench.ts"
import { temporaryFolder } from "./images.ts"
import { buildProbe } from "./probes.ts"

const call = promisify(execFile)

/** What was tried, and how the kernel answered: `ok`, `empty`, or the name of an error. */
export type Answers = Record<string, string>

export const answersIn = (text: string): Answers =>
  Object.fromEntries(
    text
      .trim()
      .split("\n")
      .map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]),
  )

const enter = async (pid: number, kinds: readonly string[], words: readonly string[]) =>
  (await call("nsenter", [`--target=${pid}`, ...kinds, "--setuid=0", "--setgid=0", ...words])).stdout

export interface EscapeProbe {
  /** A folder of the host's that everybody may pass, with the probe in it; the test removes it. */
  readonly dir: string
  pidOf(run: Assignment): number
  /** As a container's own program. */
  inside(run: Assignment, ...words: string[]): Promise<string>
  /** As root of the container with every capability there and no filter, in all its namespaces. */
  pastTheFilter(run: Assignment, ...words: string[]): Promise<string>
  /** As root of the container, on the host's processes and files: its user namespace is all that is left. */
  withItsUserAlone(run: Assignment, ...words: string[]): Promise<string>
  /** As root of the host, in namespaces that end with it. */
  unfenced(...words: string[]): Promise<string>
}

/** Puts the probe into the bench's image, too. */
export function escapeProbe(bench: HostBench): EscapeProbe {
  const dir = temporaryFolder("escape")
  chmodSync(dir, 0o755)
  const onHost = join(dir, "escape")
  buildProbe("escape", onHost)
  copyFileSync(onHost, join(bench.dir, "image", "bin", "escape"))
  const pidOf = (run: Assignment) => {
    const pid = readRecord(bench.paths(run.run_id).record)?.init?.pid
    if (pid === undefined) throw new Error("It has no process.")
    return pid
  }
  return {
    dir,
    pidOf,
    async inside(run, ...words) {
      const child: Assignment = {
        ...bench.shell("", { command: ["escape", ...words] }),
        tenant_id: run.tenant_id,
      }
      const { outcome, text } = await bench.through(child)
      await bench.controller.remove(child.run_id)
      if (outcome.exit.code !== 0) throw new Error(`The probe ended with ${outcome.exit.code}: ${text}`)
      return text
    },
    pastTheFilter: (run, ...words) => enter(pidOf(run), ["--all"], ["/bin/escape", ...words]),
    withItsUserAlone: (run, ...words) => enter(pidOf(run), ["--user"], [onHost, ...words]),
    unfenced: async (...words) =>
      (await call("unshare", ["--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "--cgroup", onHost, ...words])).stdout,
  }
}
