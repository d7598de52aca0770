/**
 * Proves on this very machine that a profile holds before any tenant is told of it: a real container is prepared, started,
 * read back from the kernel and taken down. Remembered by the versions of everything involved, so that it runs again after
 * any of them changed and not at every start.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { CAPABILITIES, ContainerCreate } from "../../schema/container.ts"
import { formatId, ID_RANDOM_BYTES } from "../../schema/ids.ts"
import type { Assignment, LogOptions } from "../../schema/protocol.ts"
import type { OciController } from "./oci-runs.ts"
import type { HostPaths } from "./paths.ts"
import type { StoredImage } from "./ports.ts"
import type { ToolPaths } from "./tools.ts"

const fileOf = (stateDir: string) => join(stateDir, "self-test.json")

export function passedBefore(stateDir: string, key: string): boolean {
  try {
    return (JSON.parse(readFileSync(fileOf(stateDir), "utf8")) as { passed?: unknown }).passed === key
  } catch {
    return false
  }
}

export function remember(stateDir: string, key: string): void {
  writeFileSync(fileOf(stateDir), JSON.stringify({ passed: key }))
}

/** Longer than the test needs; the run is taken down when it is over. */
const RUN_SECONDS = "30"
const RUNS = "it runs"
const WORD_TIMEOUT_MS = 10_000
const MEMORY_BYTES = 32 * 1024 * 1024
/** No tenant has this id; the self-test gets an id range like everybody. */
const NOBODY = new Uint8Array(ID_RANDOM_BYTES)

/** Throws what did not hold. Leaves nothing behind either way. */
export async function runSelfTest(controller: OciController, host: HostPaths, tools: ToolPaths): Promise<void> {
  const rootDir = join(host.stateDir, "self-test-root")
  rmSync(rootDir, { recursive: true, force: true })
  mkdirSync(join(rootDir, "bin"), { recursive: true })
  copyFileSync(tools.busybox, join(rootDir, "bin", "busybox"))
  for (const applet of ["sh", "sleep"]) symlinkSync("busybox", join(rootDir, "bin", applet))
  const random = crypto.getRandomValues(new Uint8Array(ID_RANDOM_BYTES))
  const run = selfTestRun(formatId("run", Date.now(), random), formatId("ctr", Date.now(), random))
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
  } finally {
    await controller.remove(run.run_id)
    rmSync(rootDir, { recursive: true, force: true })
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

function selfTestRun(runId: Assignment["run_id"], containerId: Assignment["container_id"]): Assignment {
  const create = ContainerCreate.parse({
    image: "localhost/self-test",
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
    devices: [],
    spec: {
      ...spec,
      capabilities: [...CAPABILITIES],
      on_deviation: "report",
      image_digest: null,
      hostname: "self-test",
      network: { egress: "none" },
      max_lifetime_seconds: null,
    },
  }
}
