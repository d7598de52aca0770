/**
 * A Docker daemon of the bench's own, in network, mount and process namespaces of its own: its bridge, its packet filter (it
 * sets the FORWARD policy to DROP), its mounts and all its processes go with it, however the bench ends, and a daemon that
 * the machine may already run is neither used nor touched. Starting containers was as fast in there as on the bare host.
 */
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdir, readdir, rmdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Command, exitOf, output, timed } from "../harness/process.ts"
import { EngineApi } from "./engine-api.ts"

/** dockerd waits 15 s for its containerd before it gives up. */
const START_MS = 30_000
const CGROUPS = "/sys/fs/cgroup"

/** The daemon's first process must collect orphans, so dockerd is the shell's child. A containerd of the machine must not be seen. */
const IN_NAMESPACES = `
ip link set lo up
[ -d /run/containerd ] && mount -t tmpfs none /run/containerd
dockerd "$@"
`

export interface Dockerd {
  readonly api: EngineApi
  /** A call of the docker client against this daemon. */
  client(...args: readonly string[]): Command
  stop(): Promise<void>
}

/** Where dockerd is; null when Docker is not installed. */
export const findDockerd = async (): Promise<string | null> =>
  (await output({ file: "/bin/sh", args: ["-c", "command -v dockerd"] }))?.trim() ?? null

/** Starts a daemon that keeps everything under `folder`, and ends at the latest when `signal` is aborted: its clients then fail at once. */
export async function startDockerd(dockerd: string, folder: string, signal: AbortSignal): Promise<Dockerd> {
  await mkdir(folder, { recursive: true })
  const socket = join(folder, "docker.sock")
  const cgroup = `berth-bench-${process.pid}`
  const flags = {
    "--data-root": join(folder, "data"),
    "--exec-root": join(folder, "exec"),
    "--pidfile": join(folder, "pid"),
    "--host": `unix://${socket}`,
    "--cgroup-parent": `/${cgroup}`,
  }
  const isolate = ["unshare", "--net", "--mount", "--propagation=private", "--pid", "--mount-proc", "--fork", "--kill-child"]
  const daemon = spawn(
    "setpriv",
    ["--pdeathsig", "KILL", ...isolate, "/bin/sh", "-c", IN_NAMESPACES, "sh", ...Object.entries(flags).flat()],
    {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    },
  )
  let log = ""
  daemon.stderr.setEncoding("utf8").on("data", (text: string) => (log = (log + text).slice(-4096)))
  const ended = exitOf(daemon)
  const api = new EngineApi(socket)
  const client = clientBeside(dockerd)

  const kill = () => daemon.kill("SIGKILL") // unshare passes it on, and with the first process of a namespace all others end
  signal.addEventListener("abort", kill)
  if (signal.aborted) kill()
  const stop = async () => {
    signal.removeEventListener("abort", kill)
    api.close()
    kill()
    await ended.catch(() => {})
    await removeCgroups(cgroup)
  }
  try {
    await api.answers(START_MS, ended)
  } catch {
    await stop()
    const lastError = log.split("\n").findLast((line) => /level=(error|fatal)|failed/.test(line))
    throw new Error(`dockerd did not start: ${lastError ?? "no answer on its socket"}`)
  }
  return { api, client: (...args) => ({ file: client, args: ["--host", `unix://${socket}`, ...args] }), stop }
}

/** Loads a docker-archive into the daemon. */
export const loadImage = (dockerd: Dockerd, archive: string): Promise<number> =>
  timed(dockerd.client("load", "--quiet", "--input", archive))

/** The client that was installed with the daemon: another one on the PATH may first have to agree on a version with it. */
function clientBeside(dockerd: string): string {
  const own = join(dirname(dockerd), "../bin/docker")
  return existsSync(own) ? own : "docker"
}

/** Processes of a killed namespace may take a moment to leave their cgroups. */
export async function removeCgroups(name: string): Promise<void> {
  const deadline = Date.now() + 5000
  for (const hierarchy of await readdir(CGROUPS)) {
    const folder = join(CGROUPS, hierarchy, name)
    while (existsSync(folder) && !(await removeTree(folder)) && Date.now() < deadline) await sleep(20)
  }
  const unified = join(CGROUPS, name)
  if (existsSync(unified)) await removeTree(unified)
}

/** Removes a cgroup and those under it; false while a process is left in one. */
async function removeTree(folder: string): Promise<boolean> {
  const children = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory())
  for (const child of children) await removeTree(join(folder, child.name))
  return await rmdir(folder).then(
    () => true,
    () => false,
  )
}
