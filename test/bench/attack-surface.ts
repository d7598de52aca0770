/** How much of the kernel a container reaches: system calls that its filter lets past, and functions that apps go through. */
import { join } from "node:path"
import { layoutOf, type Platform } from "../../bin/platform.ts"
import type { Container } from "../../schema/api.ts"
import { buildProbe } from "../support/probes.ts"
import { appsInBerth, appsInDocker, appsOnTheHost } from "./contenders/apps.ts"
import { dockerOrNote } from "./contenders/docker-beside.ts"
import { startOurs } from "./contenders/our-platform.ts"
import { loadImage } from "./contenders/dockerd.ts"
import { kernelProfile } from "./contenders/kernel-profile.ts"
import { makeLoadImage } from "./contenders/load-image.ts"
import { makeReachImage, type ReachImage } from "./contenders/reach-image.ts"
import type { Bench } from "./harness/bench.ts"
import { command, output } from "./harness/process.ts"
import { rowOf } from "./harness/report.ts"

/** uretprobe and uprobe: Linux lets them past every filter, which the probe cannot see. */
const PAST_EVERY_FILTER = ["335", "336"]
/** `socket` is let past by its arguments, none of which the probe gives. */
const SOCKET = "41"
const BAR = 200
const WAIT_SECONDS = 120

export const bench: Bench = {
  what: "system calls that get past the filter and kernel functions that three apps use, beside Docker's default and a bare process",
  rounds: 3,
  async run(context) {
    await using cleanup = new AsyncDisposableStack()
    const notes: string[] = []
    const state = join(context.scratch, "state")
    const probe = join(context.scratch, "reach")
    buildProbe("reach", probe)
    const image = await makeReachImage(layoutOf(state).images, context.scratch, probe)
    const apps = await makeLoadImage(layoutOf(state).images, join(context.scratch, "apps"))
    const platform = context.peersOnly ? null : await startOurs(context, state, cleanup)
    const ours = platform && reachedIn(await inBerth(platform, image))
    const dockerd = await dockerOrNote(context, cleanup, image.archive, notes)
    const docker = dockerd
      ? reachedIn(
          await output(dockerd.client("run", "--rm", "--network=none", image.docker, "/bin/sh", "-c", "reach </dev/null")),
        )
      : null
    if (dockerd) await loadImage(dockerd, apps.archive)
    const bare = reachedIn(await output(command("/bin/sh", "-c", `exec ${probe} </dev/null`)))
    notes.push(
      "counted by a filter of the probe's own on top, numbers 0 to 479 of the 64-bit entry, no call is made; socket and the two calls that pass every filter are counted for all",
    )
    const functions = await kernelProfile(
      context,
      [
        ...(platform ? [appsInBerth(platform.tenant, apps)] : []),
        ...(dockerd ? [appsInDocker(dockerd, apps)] : []),
        appsOnTheHost(join(state, "bare"), context.signal),
      ],
      apps,
      notes,
    )
    const what = "system calls that reach the kernel, 64-bit entry"
    const others = "the same by the 32-bit and x32 entries"
    const unit = "calls"
    return {
      rows: [
        rowOf({ id: "attack.syscalls", what, unit, ours: ours?.native ?? null, bar: BAR }),
        rowOf({
          id: "attack.syscalls_vs_docker",
          what,
          unit,
          ours: ours?.native ?? null,
          peer: docker?.native,
          peer_name: "Docker's default",
        }),
        rowOf({
          id: "attack.syscalls_vs_bare",
          what,
          unit,
          ours: ours?.native ?? null,
          peer: bare.native,
          peer_name: "a bare process: all numbers asked",
        }),
        rowOf({
          id: "attack.other_entries",
          what: others,
          unit,
          ours: ours?.others ?? null,
          peer: docker?.others,
          peer_name: "Docker's default",
        }),
        ...functions,
      ],
      trail: null,
      notes,
    }
  },
}

async function inBerth({ tenant }: Platform, image: ReachImage): Promise<string> {
  await using cleanup = new AsyncDisposableStack()
  const { id } = await tenant.post<Container>("/v1/containers", {
    image: image.berth,
    command: ["/bin/sh", "-c", "reach </dev/null"],
    network: { egress: "none" },
  })
  cleanup.defer(async () => {
    await tenant.delete(`/v1/containers/${id}?force=true`)
    await tenant.get(`/v1/containers/${id}/wait?status=removed&timeout=${WAIT_SECONDS}`)
  })
  const ended = await tenant.get<Container>(`/v1/containers/${id}/wait?status=exited&timeout=${WAIT_SECONDS}`)
  if (ended.run?.exit?.code !== 0) throw new Error(`the probe ended badly: ${JSON.stringify(ended.run?.exit ?? ended.reason)}`)
  return await tenant.text(`/v1/containers/${id}/logs`)
}

function reachedIn(text: string | null): { native: number; others: number } {
  const found = (text ?? "").split("\n").map((line) => line.split(" "))
  const reached = found.filter(([, , what]) => what === "reached")
  const native = new Set(reached.flatMap(([entry, number = ""]) => (entry === "x86_64" ? [number] : [])))
  if (native.size === 0) throw new Error(`the probe found nothing: ${text?.slice(0, 200) ?? "it failed"}`)
  for (const number of [...PAST_EVERY_FILTER, SOCKET]) native.add(number)
  return { native: native.size, others: reached.filter(([entry]) => entry === "x32" || entry === "i386").length }
}
