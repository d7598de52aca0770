/** Containers of ours under each runtime that a node can run, on an image that a test makes hostile, with what their releases are known for. */
import { join } from "node:path"
import { findTools } from "../../node-bridge/runtime/tools.ts"
import { knownVulnerabilities } from "../../schema/vulnerabilities.ts"
import type { SpecChanges } from "./assignments.ts"
import { copyOf, versionOf } from "./escape-bench.ts"
import type { BareRuntime } from "./escape-bench.ts"
import { openHostBench } from "./host-bench.ts"
import type { HostBench } from "./host-bench.ts"

export const RUNTIMES = ["crun", "runc"] as const satisfies BareRuntime[]
export const VERSIONS = { crun: versionOf("crun"), runc: versionOf("runc") }
/** By the version number: a test that fails on this may have met a distribution that mended an old release. */
export const isKnown = (runtime: BareRuntime, id: string): boolean =>
  knownVulnerabilities({ [runtime]: VERSIONS[runtime] }).some((known) => known.id === id)

export interface Ours {
  readonly bench: HostBench
  /** The runtime's program that the bridge uses: the test's own copy. */
  readonly copy: string
}

export interface AllOurs {
  of(runtime: BareRuntime): Ours
  through(runtime: BareRuntime, script: string, spec?: SpecChanges): ReturnType<HostBench["through"]>
  close(): Promise<void>
}

/** `hostile` changes the image that all of them share; copies of programs come to lie in `dir`. */
export async function openOurs(dir: string, hostile: (root: string) => void): Promise<AllOurs> {
  const opened = new Map<BareRuntime, Ours>()
  for (const runtime of RUNTIMES) {
    const copy = copyOf(dir, findTools({}).paths[runtime])
    const bench = await openHostBench({ runtime, tools: { [runtime]: copy } })
    hostile(join(bench.dir, "image"))
    opened.set(runtime, { bench, copy })
  }
  const of = (runtime: BareRuntime): Ours => {
    const one = opened.get(runtime)
    if (one === undefined) throw new Error(`no bench for ${runtime}`)
    return one
  }
  return {
    of,
    through: (runtime, script, spec) => of(runtime).bench.through(of(runtime).bench.shell(script, spec)),
    async close() {
      for (const { bench } of opened.values()) await bench.close()
    },
  }
}
