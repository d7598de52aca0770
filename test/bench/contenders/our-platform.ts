/** The whole platform for the length of a bench, with nothing of it left on the machine, however the bench ends. */
import { layoutOf, type Platform, startPlatform } from "../../../bin/platform.ts"
import { purgeNode } from "../../../bin/purge.ts"
import type { BenchContext } from "../harness/bench.ts"

const RUNTIME = "crun"

/** Started at once; ended by `cleanup`, or when the bench is aborted: whoever waits for an answer of it then need not wait longer. */
export async function startOurs(
  { say, signal }: Pick<BenchContext, "say" | "signal">,
  state: string,
  cleanup: AsyncDisposableStack,
  bridgeArgs: readonly string[] = [],
): Promise<Platform> {
  signal.throwIfAborted()
  say("starting the platform")
  cleanup.defer(async () => {
    // Cut off in the middle, a node leaves its containers to the next one of its state, of which there will be none.
    if (signal.aborted) await purgeNode(layoutOf(state).node, RUNTIME)
  })
  const platform = await startPlatform({ state, port: 0, runtime: RUNTIME, bridgeArgs, signal })
  let stopped: Promise<void> | undefined
  const stop = (how: "drain" | "leave") => (stopped ??= platform.stop(how))
  const cutOff = () => void stop("leave").catch(() => {}) // whoever awaits it is told
  signal.addEventListener("abort", cutOff)
  cleanup.defer(async () => {
    signal.removeEventListener("abort", cutOff)
    await stop("drain")
  })
  return platform
}

/** For a node that offers so much, by the names of the bridge's options after `--capacity-`. */
export const capacityArgs = (offers: Readonly<Record<string, number>>): string[] =>
  Object.entries(offers).flatMap(([what, amount]) => [`--capacity-${what}`, String(amount)])
