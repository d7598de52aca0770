/**
 * Makes a run ready: image, network, root, `config.json`. What it leaves is in the run's own directories alone; the rest are
 * descriptors of this process, which is why a run that another bridge prepared is prepared anew.
 */
import { chownSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Assignment } from "../../schema/protocol.ts"
import { etcFiles } from "../oci/etc-files.ts"
import { processArgs, processEnv, processWorkdir } from "../oci/process.ts"
import { composeSpec } from "../oci/spec.ts"
import { resolveUser } from "../oci/user.ts"
import { ControllerError } from "./controller.ts"
import type { HostRecord } from "./host-record.ts"
import { readImageText } from "./image-files.ts"
import type { RunPaths } from "./paths.ts"
import type { HeldPath, IdRanges, ImageStore, NetworkPool, RootMounts, StoredImage, UserNamespaces } from "./ports.ts"
import { parseStopSignal } from "./stop-signal.ts"
import type { Stopwatch } from "./stopwatch.ts"

export interface Parts {
  readonly images: ImageStore
  readonly ranges: IdRanges
  readonly namespaces: UserNamespaces
  readonly roots: RootMounts
  readonly network: NetworkPool
}

export interface PrepareHost {
  readonly runtime: "crun" | "runc"
  readonly architecture: "amd64" | "arm64"
  readonly cgroupVersion: 1 | 2
  readonly maxOpenFiles: number
  readonly seccompBpf: string | null
  readonly bootId: string
}

/** A run that `start` can start: what it needs and what `start` puts on record. */
export interface PreparedRun {
  readonly record: HostRecord
  readonly lower: HeldPath
  readonly netns: string
  readonly command: string
  readonly workdir: string
  readonly tty: boolean
}

/** Where a run's image comes from: the store, or the self-test, which brings its own. */
export type ImageSource = (signal: AbortSignal) => Promise<StoredImage>

/** A directory that only root may pass: names inside are guessable. */
const PRIVATE = 0o700

export async function prepareRun(
  run: Assignment,
  paths: RunPaths,
  host: PrepareHost,
  parts: Parts,
  watch: Stopwatch,
  imageOf: ImageSource,
  signal: AbortSignal,
): Promise<PreparedRun> {
  const { spec } = run
  const image = await watch.time("image", () => imageOf(signal))
  parts.images.retain(image.digest, run.run_id)
  signal.throwIfAborted()

  const network = await watch.time("network", () => parts.network.take(run.run_id, run.tenant_id, spec.network.egress))
  const { range, userns, lower } = await watch.time("root", () => makeRoot(run, paths, host, parts, image))
  try {
    return await watch.time("spec", async () => {
      const user = resolveUser(
        spec.user ?? image.config.user,
        readImageText(image.rootDir, "etc/passwd"),
        readImageText(image.rootDir, "etc/group"),
      )
      if (!user.ok) throw new ControllerError(user.error.code, user.error.message)
      const args = processArgs(spec, image.config)
      if (!args.ok) throw new ControllerError(args.error.code, args.error.message)
      const workdir = processWorkdir(spec, image.config)
      const etc = { hostname: spec.hostname, address: network.address, nameservers: network.nameservers }
      for (const [name, text] of Object.entries(etcFiles(etc))) {
        writeFileSync(join(paths.etc, name), text, { mode: 0o644 })
      }
      const config = composeSpec({
        run,
        args: args.value,
        env: processEnv(spec, image.config, user.value.home),
        workdir,
        user: user.value,
        range,
        paths: { root: paths.root, sys: paths.sys, etc: paths.etc, netns: network.netnsPath, userns },
        host,
        seccompBpf: host.seccompBpf,
      })
      writeFileSync(paths.config, JSON.stringify(config), { mode: 0o600 })
      const record: HostRecord = {
        run_id: run.run_id,
        tenant_id: run.tenant_id,
        profile: spec.profile,
        runtime: host.runtime,
        image_digest: image.digest,
        boot_id: host.bootId,
        stop_signal: parseStopSignal(image.config.stopSignal),
        egress: spec.network.egress,
        address: network.address,
        host_base: range.hostBase,
        read_only: spec.read_only,
        limits: spec.resources,
        uid: user.value.uid,
        init: null,
        monitor: null,
        started_at_ms: null,
      }
      return { record, lower, netns: network.netnsPath, command: args.value[0] ?? "", workdir, tty: spec.tty }
    })
  } catch (error) {
    lower.release()
    throw error
  }
}

async function makeRoot(run: Assignment, paths: RunPaths, host: PrepareHost, parts: Parts, image: StoredImage) {
  const range = await parts.ranges.rangeOf(run.tenant_id)
  // runc cannot join a host's network namespace from a user namespace that root does not own: it gets one of its own.
  const userns = host.runtime === "crun" ? (await parts.namespaces.of(run.tenant_id)).path : null
  mkdirSync(paths.bundle, { recursive: true, mode: PRIVATE })
  for (const dir of [paths.root, paths.sys, paths.etc, paths.upper, paths.work]) mkdirSync(dir, { recursive: true, mode: 0o755 })
  // The root of the container's file system is its own root's, as is all that it writes there.
  for (const dir of [paths.upper, paths.work]) chownSync(dir, range.hostBase, range.hostBase)
  return { range, userns, lower: await parts.roots.idmapped(image.rootDir, range) }
}
