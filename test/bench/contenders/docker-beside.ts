/** A Docker daemon beside ours for the length of a bench, or a note that says why there is none. */
import { join } from "node:path"
import type { BenchContext } from "../harness/bench.ts"
import { type Dockerd, findDockerd, loadImage, startDockerd } from "./dockerd.ts"

const AS_IT_COMES =
  "Docker runs as a daemon of the bench's own, with its defaults, in network, mount and process namespaces of its own"

/**
 * `archive`: the docker-archive that the daemon shall hold. `how`: what a reader is told of it. Peers that cannot be had never
 * fail a bench.
 */
export async function dockerOrNote(
  context: BenchContext,
  cleanup: AsyncDisposableStack,
  archive: string,
  notes: string[],
  how = AS_IT_COMES,
): Promise<Dockerd | undefined> {
  context.signal.throwIfAborted()
  const program = await findDockerd()
  if (program === null) {
    notes.push("not compared with Docker: dockerd is not installed (apt-get install --no-install-recommends docker.io)")
    return undefined
  }
  try {
    context.say("starting a Docker daemon of our own")
    const dockerd = await startDockerd(program, join(context.scratch, "docker"), context.signal)
    cleanup.defer(() => dockerd.stop())
    await loadImage(dockerd, archive)
    notes.push(how)
    return dockerd
  } catch (error) {
    context.signal.throwIfAborted()
    notes.push(`not compared with Docker: ${error instanceof Error ? error.message : String(error)}`)
    return undefined
  }
}
