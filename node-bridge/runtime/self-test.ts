/**
 * Proves on this very machine that a profile holds before any tenant is told of it: a real container is prepared, started,
 * read back from the kernel and taken down. Remembered by the versions of everything involved, so that it runs again after
 * any of them changed and not at every start.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import { CAPABILITIES, ContainerCreate } from "../../schema/container.ts"
import type { Profile } from "../../schema/container.ts"
import { FEATURES } from "../../schema/features.ts"
import type { Feature } from "../../schema/features.ts"
import { formatId, ID_RANDOM_BYTES } from "../../schema/ids.ts"
import { packageKey } from "../../schema/vulnerabilities.ts"
import type { Assignment, LogOptions } from "../../schema/protocol.ts"
import type { OciController } from "./oci-runs.ts"
import type { HostPaths } from "./paths.ts"
import type { StoredImage } from "./ports.ts"
import { RUNTIMES } from "./runtimes.ts"
import type { RuntimeName } from "./runtimes.ts"
import type { ToolPaths } from "./tools.ts"

/** What was tried and worked. */
const Seen = z.strictObject({ pause: z.boolean() })
type Seen = z.infer<typeof Seen>

/** By profile: the key of what was tested, and what was seen. */
const Remembered = z.record(z.string(), z.strictObject({ key: z.string(), seen: Seen }))
type Remembered = z.infer<typeof Remembered>

export interface SelfTestInput {
  readonly controller: OciController
  readonly profile: Profile
  readonly runtime: RuntimeName
  readonly host: HostPaths
  readonly tools: ToolPaths
  readonly versions: Readonly<Record<string, string>>
}

/** Throws what did not hold; a test that passed with the same versions is not run again. */
export async function selfTest(input: SelfTestInput): Promise<Seen> {
  const { host, profile, runtime, versions } = input
  const used = ["kernel", "node", "conmon", runtime, packageKey("conmon"), packageKey(runtime)].map((name) => [
    name,
    versions[name] ?? "",
  ])
  const key = JSON.stringify({ runtime, ...Object.fromEntries(used), design: DESIGN })
  const known = recall(host.stateDir)
  const before = known[profile]
  if (before?.key === key) return before.seen
  const seen = await tryOut(input)
  writeFileSync(fileOf(host.stateDir), JSON.stringify({ ...known, [profile]: { key, seen } }))
  return seen
}

/** Raise it when what the test tries, or what a container gets, changes. */
const DESIGN = 2

/** Pure: what a node may be asked for under a profile. `modules` are those that a part of the host answers for. */
export function offeredFeatures(runtime: RuntimeName, { pause }: Seen, modules: readonly Feature[]): Feature[] {
  const { takesNetwork, filter } = RUNTIMES[runtime]
  const able: Record<Feature, boolean> = {
    network: takesNetwork,
    bandwidth: takesNetwork,
    seccomp: filter !== "own",
    io_limits: true,
    buffered_io_limits: true,
    io_weight: true,
    accelerators: filter !== "own", // a kernel of its own has no driver for them
    pause: true,
    disk_quota: true,
  }
  const offered: Feature[] = [...modules, "seccomp", ...(pause ? ["pause" as const] : [])]
  return FEATURES.filter((feature) => able[feature] && offered.includes(feature))
}

const fileOf = (stateDir: string) => join(stateDir, "self-test.json")

function recall(stateDir: string): Remembered {
  try {
    return Remembered.parse(JSON.parse(readFileSync(fileOf(stateDir), "utf8")))
  } catch {
    return {} // none yet, or written by another version
  }
}

/** Longer than the test needs; the run is taken down when it is over. */
const RUN_SECONDS = "30"
const RUNS = "it runs"
const WORD_TIMEOUT_MS = 10_000
/** A sandbox's own kernel takes some 15 MiB of it. */
const MEMORY_BYTES = 64 * 1024 * 1024
/** No tenant has this id; the self-test gets an id range like everybody. */
const NOBODY = new Uint8Array(ID_RANDOM_BYTES)

/** Makes a container of the host's own, now. Throws what did not hold. Leaves nothing behind either way. */
export async function tryOut({ controller, profile, host, tools }: Omit<SelfTestInput, "runtime" | "versions">): Promise<Seen> {
  const rootDir = join(host.stateDir, "self-test-root")
  rmSync(rootDir, { recursive: true, force: true })
  mkdirSync(join(rootDir, "bin"), { recursive: true })
  copyFileSync(tools.busybox, join(rootDir, "bin", "busybox"))
  for (const applet of ["sh", "sleep"]) symlinkSync("busybox", join(rootDir, "bin", applet))
  const random = crypto.getRandomValues(new Uint8Array(ID_RANDOM_BYTES))
  const run = selfTestRun(profile, formatId("run", Date.now(), random), formatId("ctr", Date.now(), random))
  const image: StoredImage = {
    digest: `sha256:${"0".repeat(64)}`,
    rootDir,
    config: {
      entrypoint: [],
      cmd: ["sh", "-c", `echo ${RUNS}; sleep ${RUN_SECONDS}`],
      env: [],
      workdir: "",
      user: "",
      stopSignal: "",
    },
  }
  try {
    await controller.prepareImage(run, image)
    await controller.start(run)
    await saysSo(controller, run)
    const { deviations } = await controller.isolation(run.run_id)
    if (deviations.length > 0) throw new Error(deviations.join("; "))
    return { pause: await pauses(controller, run) }
  } finally {
    await controller.remove(run.run_id)
    rmSync(rootDir, { recursive: true, force: true })
  }
}

async function pauses(controller: OciController, { run_id }: Assignment): Promise<boolean> {
  try {
    await controller.pause(run_id)
    await controller.unpause(run_id)
    const seen = await controller.inspect(run_id)
    return seen.kind === "running" && !seen.paused
  } catch {
    return false
  }
}

/** Waits for the container's own word: the kernel shows a process that was never let go much like one that runs. */
async function saysSo(controller: OciController, run: Assignment): Promise<void> {
  const options: LogOptions = { follow: true, since_ms: null, tail: null, streams: ["stdout"], after: null }
  for await (const { text } of controller.logs(run.run_id, options, AbortSignal.timeout(WORD_TIMEOUT_MS))) {
    if (text === RUNS) return
  }
  throw new Error("the container ended without a word")
}

function selfTestRun(profile: Profile, runId: Assignment["run_id"], containerId: Assignment["container_id"]): Assignment {
  const create = ContainerCreate.parse({
    image: "localhost/self-test",
    profile,
    resources: { cpus: 0.5, memory_bytes: MEMORY_BYTES, pids: 8 },
  })
  const { name: _name, start: _start, restart: _restart, placement: _placement, remove_on_exit: _remove, ...spec } = create
  return {
    run_id: runId,
    container_id: containerId,
    tenant_id: formatId("ten", 0, NOBODY),
    desired: "running",
    paused: false,
    stop_timeout_seconds: null,
    stop_reason: null,
    devices: [],
    spec: {
      ...spec,
      capabilities: [...CAPABILITIES],
      on_deviation: "report",
      image_digest: null,
      registry_credential: null,
      identity: false,
      hostname: "self-test",
      network: { egress: "none" },
      max_lifetime_seconds: null,
      on_partition: "keep", // a bridge that begins may have no lease yet
    },
  }
}
